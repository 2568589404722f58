"""Each likelihood against an independent reference, and its normalisation."""

from __future__ import annotations

import math

import numpy as np
import pytest
import scipy.special
import scipy.stats
import torch

from ppl_vae import likelihoods
from ppl_vae.likelihoods.bernoulli import log_sigmoid
from ppl_vae.likelihoods.continuous_bernoulli import ContinuousBernoulliDistribution, log_normaliser
from ppl_vae.likelihoods.gaussian import GaussianDistribution
from ppl_vae.likelihoods.logistic_mixture import DiscretisedLogisticMixtureDistribution
from ppl_vae.likelihoods.negative_binomial import log_rising
from ppl_vae.likelihoods.support import finite_real
from ppl_vae.nets.scale import positive_scale


def grid(low: float, high: float, count: int = 4001) -> torch.Tensor:
    return torch.linspace(low, high, count, dtype=torch.float64)


class TestBernoulli:
    def test_against_scipy_with_saturated_logits(self) -> None:
        logits = grid(-100, 100, 201)
        for value in (0.0, 1.0):
            x = torch.full_like(logits, value)
            expected = scipy.special.log_expit((2 * value - 1) * logits.numpy())
            actual = likelihoods.Bernoulli(event_dim=1)(logits).base_dist.log_prob(x)
            np.testing.assert_allclose(actual, expected, rtol=1e-14)

    @pytest.mark.parametrize("compiling", [False, True])
    def test_float32_accuracy_of_both_formulas(
        self, compiling: bool, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(torch.compiler, "is_compiling", lambda: compiling)
        x = torch.cat([torch.linspace(-100, 100, 100_001), torch.zeros(1)]).requires_grad_()
        y = log_sigmoid(x)
        (gradient,) = torch.autograd.grad(y.sum(), x)
        wide = x.detach().double().numpy()
        expected = scipy.special.log_expit(wide)
        error = np.abs(y.detach().numpy() - expected) / np.maximum(1, np.abs(expected))
        assert error.max() < 1.5e-7
        assert np.abs(gradient.numpy() - scipy.special.expit(-wide)).max() < 1e-7
        assert gradient[-1] == 0.5

    def test_integer_and_boolean_data(self) -> None:
        p = likelihoods.Bernoulli(event_dim=1)(torch.tensor([0.3, -2.0, 1.0]))
        x = torch.tensor([1.0, 0.0, 0.0])
        for dtype in (torch.uint8, torch.bool, torch.int64):
            assert p.log_prob(x.to(dtype)) == p.log_prob(x)

    @pytest.mark.parametrize(
        ("x", "message"),
        [
            (
                [0.0, 12.0, 255.0, 7.0, 9.0],
                r"found 12, 255, 7, \.\.\. \(min 0, max 255\): divide by 255",
            ),
            ([0.0, 0.25], r"found 0\.25 .*binarise='dynamic'.*ContinuousBernoulli"),
            ([-1.0, 1.0], r"found -1 .*Gaussian"),
            ([math.nan, 9.0], r"found nan \(min 9, max 9\): fill the missing"),
            ([math.nan], r"found nan \(none finite\)"),
        ],
    )
    def test_message_fits_the_data(self, x: list[float], message: str) -> None:
        with pytest.raises(ValueError, match=message):
            likelihoods.Bernoulli().check(torch.tensor(x))


class TestContinuousBernoulli:
    logits = torch.cat([grid(-700, 700, 1401), grid(-0.6, 0.6, 1201), torch.tensor([0.0, 1e-12, -1e-9])])

    def test_normaliser_against_quadrature(self) -> None:
        # Gauss-Legendre on panels refined towards the ends, where steep densities live.
        nodes, weights = np.polynomial.legendre.leggauss(40)
        edges = np.concatenate([[0], np.geomspace(1e-4, 0.5, 13)])
        edges = np.concatenate([edges, 1 - edges[-2::-1]])
        low, width = edges[:-1, None], np.diff(edges)[:, None]
        x = (low + width * (nodes + 1) / 2).ravel()
        w = (width * weights / 2).ravel()
        logits = self.logits.numpy()[:, None]
        peak = np.maximum(logits, 0)
        integrand = np.exp(logits * x - peak) * w
        expected = np.log(integrand.sum(-1)) + peak[:, 0]
        np.testing.assert_allclose(log_normaliser(self.logits), expected, rtol=1e-12, atol=1e-13)
        p = ContinuousBernoulliDistribution(logits=self.logits)
        mean = (integrand * x).sum(-1) / integrand.sum(-1)
        np.testing.assert_allclose(p.mean, mean, rtol=1e-11)
        deviation = (x - mean[:, None]) ** 2
        np.testing.assert_allclose(p.variance, (integrand * deviation).sum(-1) / integrand.sum(-1), rtol=1e-9)

    def test_against_torch_where_torch_is_accurate(self) -> None:
        logits, x = grid(-12, 12, 48), grid(0, 1, 48)
        ours = ContinuousBernoulliDistribution(logits=logits)
        theirs = torch.distributions.ContinuousBernoulli(logits=logits)
        torch.testing.assert_close(ours.log_prob(x), theirs.log_prob(x), rtol=1e-9, atol=1e-9)
        torch.testing.assert_close(ours.entropy(), theirs.entropy(), rtol=1e-8, atol=1e-8)
        torch.testing.assert_close(ours.cdf(x), theirs.cdf(x), rtol=1e-8, atol=1e-8)
        u = grid(0.01, 0.99, 48)
        torch.testing.assert_close(ours.icdf(u), theirs.icdf(u), rtol=1e-8, atol=1e-8)

    def test_quantiles_invert_the_distribution_function(self) -> None:
        u = grid(0.05, 0.95, 7).unsqueeze(-1)
        p = ContinuousBernoulliDistribution(logits=torch.cat([grid(-30, 30, 61), grid(-0.1, 0.1, 101)]))
        torch.testing.assert_close(p.cdf(p.icdf(u)), u.expand(7, 162), rtol=1e-6, atol=1e-6)

    def test_smooth_across_the_seam_in_float32(self) -> None:
        logits = torch.linspace(-2, 2, 8001)
        single = log_normaliser(logits.requires_grad_())
        (slope,) = torch.autograd.grad(single.sum(), logits)
        exact = logits.detach().double().requires_grad_()
        (exact_slope,) = torch.autograd.grad(log_normaliser(exact).sum(), exact)
        assert (single - log_normaliser(exact)).abs().max() < 3e-7
        assert (slope - exact_slope).abs().max() < 2e-6

    @pytest.mark.parametrize(
        ("x", "message"),
        [(255.0, "divide by 255"), (-0.5, "rescale it to"), (math.nan, "fill the missing")],
    )
    def test_message_fits_the_data(self, x: float, message: str) -> None:
        with pytest.raises(ValueError, match=message):
            likelihoods.ContinuousBernoulli().check(torch.tensor([0.5, x]))


@pytest.mark.parametrize(
    ("family", "reference"),
    [(likelihoods.Gaussian, scipy.stats.norm), (likelihoods.Laplace, scipy.stats.laplace)],
)
class TestLocationScale:
    def test_against_scipy(self, family: type, reference: scipy.stats.rv_continuous) -> None:
        loc, x = grid(-3, 3, 31), grid(2, -5, 31)
        raw_scale = grid(-4, 3, 31)
        p = family(scale="per_output", event_dim=1)(torch.cat([loc, raw_scale]))
        scale = positive_scale(raw_scale, 1e-3, 1e2)
        np.testing.assert_allclose(
            p.base_dist.log_prob(x), reference.logpdf(x, loc, scale), rtol=1e-13, atol=1e-13
        )
        fixed = family(scale=0.3, event_dim=1)(loc).base_dist.log_prob(x)
        np.testing.assert_allclose(fixed, reference.logpdf(x, loc, 0.3), rtol=1e-13)

    def test_integrates_to_one(self, family: type, reference: scipy.stats.rv_continuous) -> None:
        x = grid(-40, 40, 400_001)
        p = family(event_dim=1)(torch.zeros(1, dtype=torch.float64))
        density = p.base_dist.log_prob(x).exp()
        assert abs(torch.trapezoid(density, x).item() - 1) < 1e-6

    def test_floor_and_cap(self, family: type, reference: scipy.stats.rv_continuous) -> None:
        likelihood = family(scale="per_output", min_scale=0.01, max_scale=10.0, event_dim=1)
        scale = likelihood(torch.tensor([0.0, 0.0, 0.0, -1e4, 0.0, 1e4])).base_dist.scale
        torch.testing.assert_close(scale, torch.tensor([0.01, 1.0, 10.0]))

    def test_one_learned_scale(self, family: type, reference: scipy.stats.rv_continuous) -> None:
        likelihood = family()
        assert [name for name, _ in likelihood.named_parameters()] == ["raw_scale"]
        assert not list(family(scale=0.5).parameters())
        torch.manual_seed(0)
        x = 0.1 * reference.rvs(size=(50, 1, 4, 4), random_state=0)
        optimiser = torch.optim.Adam(likelihood.parameters(), lr=0.05)
        for _ in range(200):
            optimiser.zero_grad()
            loss = -likelihood(torch.zeros(50, 1, 4, 4)).log_prob(torch.tensor(x).float()).mean()
            loss.backward()
            optimiser.step()
        fitted = likelihood(torch.zeros(1, 1, 1)).base_dist.scale.item()
        best = np.sqrt((x**2).mean()) if reference is scipy.stats.norm else np.abs(x).mean()
        assert fitted == pytest.approx(best, rel=1e-3)

    @pytest.mark.parametrize("scale", [0.0, -1.0, math.inf, math.nan, True, "fixed", None])
    def test_bad_scale(self, family: type, reference: scipy.stats.rv_continuous, scale: object) -> None:
        with pytest.raises(ValueError, match="scale must be a positive number, 'learned' or 'per_out"):
            family(scale=scale)

    def test_bad_range(self, family: type, reference: scipy.stats.rv_continuous) -> None:
        with pytest.raises(ValueError, match="0 < min_scale < 1 < max_scale"):
            family(min_scale=0.0)


def test_finite_support_serves_unobserved_sites() -> None:
    value = torch.tensor([-3.0, 2.0])
    p = GaussianDistribution(torch.zeros(2), torch.ones(2))
    assert torch.equal(torch.distributions.biject_to(p.support)(value), value)
    assert torch.equal(torch.distributions.transform_to(finite_real)(value), value)


class TestPoisson:
    def test_against_scipy(self) -> None:
        raw, x = grid(-5, 6, 45), torch.arange(45, dtype=torch.float64) * 7
        actual = likelihoods.Poisson(event_dim=1)(raw).base_dist.log_prob(x)
        np.testing.assert_allclose(actual, scipy.stats.poisson.logpmf(x, raw.exp()), rtol=1e-12)

    def test_underflowed_rate_is_no_surprise(self) -> None:
        p = likelihoods.Poisson(event_dim=1)(torch.tensor([-200.0, -200.0])).base_dist
        assert p.log_prob(torch.tensor([0.0, 2.0])).tolist() == [
            0.0,
            pytest.approx(-400.693, rel=1e-6),
        ]

    def test_rate_goes_on_linearly(self) -> None:
        raw = torch.tensor([19.0, 20.0, 21.0, 30.0], dtype=torch.float64)
        rate = likelihoods.Poisson(event_dim=1)(raw).mean
        expected = torch.tensor([math.exp(19), math.exp(20), 2 * math.exp(20), 11 * math.exp(20)])
        torch.testing.assert_close(rate, expected.double(), rtol=1e-6, atol=0)

    @pytest.mark.parametrize("x", [torch.tensor([0, 3]), torch.tensor([0, 3], dtype=torch.uint8)])
    def test_integer_data(self, x: torch.Tensor) -> None:
        likelihood = likelihoods.Poisson(event_dim=1)
        likelihood.check(x)
        p = likelihood(torch.tensor([0.5, 1.0]))
        assert p.log_prob(x) == p.log_prob(x.float())


class TestNegativeBinomial:
    def test_against_scipy(self) -> None:
        raw, x = grid(-3, 5, 40), torch.arange(40, dtype=torch.float64) * 5
        for total_count in (0.01, 0.5, 7.9, 8.1, 300.0):
            p = likelihoods.NegativeBinomial(total_count=total_count, event_dim=1)(raw)
            expected = scipy.stats.nbinom.logpmf(x, total_count, total_count / (total_count + raw.exp()))
            np.testing.assert_allclose(p.base_dist.log_prob(x), expected, rtol=1e-9, atol=1e-10)

    def test_total_count_per_output_keeps_the_mean(self) -> None:
        raw = torch.cat([grid(-2, 3, 9), grid(-4, 6, 9)])
        p = likelihoods.NegativeBinomial(total_count="per_output", event_dim=1)(raw)
        torch.testing.assert_close(p.mean, raw[:9].exp())
        count = positive_scale(raw[9:], 1e-3, 1e5)
        torch.testing.assert_close(p.variance, p.mean + p.mean.square() / count)

    def test_becomes_a_poisson_in_float32(self) -> None:
        raw, x = torch.linspace(-2, 4, 25), torch.arange(25.0)
        wide = likelihoods.NegativeBinomial(total_count=1e7, event_dim=1)(raw).base_dist.log_prob(x)
        poisson = likelihoods.Poisson(event_dim=1)(raw).base_dist.log_prob(x)
        assert ((wide - poisson).abs() / poisson.abs().clamp(min=1)).max() < 5e-5

    def test_log_rising_sums_logarithms(self) -> None:
        r = torch.tensor([1e-3, 0.7, 7.99, 8.01, 50.0, 1e4, 1e8], dtype=torch.float64)
        for x in (0, 1, 5, 60):
            expected = torch.log(r.unsqueeze(-1) + torch.arange(x)).sum(-1)
            actual = log_rising(r, torch.tensor(float(x), dtype=torch.float64))
            torch.testing.assert_close(actual, expected, rtol=1e-10, atol=1e-10)

    def test_sums_to_one(self) -> None:
        p = likelihoods.NegativeBinomial(total_count=1.5, event_dim=1)(torch.ones(1).double())
        total = p.base_dist.log_prob(torch.arange(500, dtype=torch.float64)).exp().sum()
        assert abs(total.item() - 1) < 1e-10


@pytest.mark.parametrize("family", [likelihoods.Poisson, likelihoods.NegativeBinomial])
@pytest.mark.parametrize(
    ("x", "message"),
    [
        (-2.0, "found -2 .*never negative"),
        (1.5, "found 1.5 .*raw counts"),
        (math.inf, "found inf .*fill the missing"),
        (math.nan, "found nan .*fill the missing"),
    ],
)
def test_counts_message_fits_the_data(family: type, x: float, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        family().check(torch.tensor([3.0, x]))


class TestCategorical:
    def test_layout_and_values(self) -> None:
        likelihood = likelihoods.Categorical(num_classes=3)
        raw = torch.randn(4, 6, 5, 5, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
        x = torch.randint(3, (4, 2, 5, 5), generator=torch.Generator().manual_seed(1))
        # Class c of channel k sits at c * channels + k, whatever the helper calls it.
        logits = torch.stack([torch.stack([raw[:, c * 2 + k] for c in range(3)], -1) for k in range(2)], 1)
        expected = scipy.special.log_softmax(logits.numpy(), -1)
        expected = np.take_along_axis(expected, x.numpy()[..., None], -1).sum((1, 2, 3, 4))
        np.testing.assert_allclose(likelihood(raw).log_prob(x), expected, rtol=1e-13)
        np.testing.assert_allclose(likelihood(raw).log_prob(x.double()), expected, rtol=1e-13)

    @pytest.mark.parametrize(
        ("x", "message"),
        [
            (7.0, "found 7 .*raise num_classes to 8"),
            (-1.0, "found -1 .*from 0"),
            (0.4, r"found 0.4 .*\(x \* 3\).round"),
            (math.nan, "found nan .*fill the missing"),
        ],
    )
    def test_message_fits_the_data(self, x: float, message: str) -> None:
        with pytest.raises(ValueError, match=message):
            likelihoods.Categorical(num_classes=4).check(torch.tensor([0.0, 3.0, x]))

    def test_one_class_is_refused(self) -> None:
        with pytest.raises(ValueError, match="at least 2, got 1"):
            likelihoods.Categorical(num_classes=1)


class TestDiscretisedLogisticMixture:
    @staticmethod
    def extreme(dtype: torch.dtype, levels: int) -> DiscretisedLogisticMixtureDistribution:
        """Locations far outside, on an edge and on a level; scales at the floor, usual and flat."""
        loc = torch.tensor([-20.0, -0.01, 0.0, 0.5 / 255, 0.3, 1.0, 30.0], dtype=dtype)
        scale = torch.tensor([5e-4, 0.02, 0.5, 50.0], dtype=dtype).unsqueeze(-1)
        loc, scale = torch.broadcast_tensors(loc, scale)
        loc = torch.stack([loc, loc.flip(-1)], -1)
        return DiscretisedLogisticMixtureDistribution(
            torch.tensor([0.2, -1.0], dtype=dtype), loc, torch.stack([scale, scale], -1), levels
        )

    @pytest.mark.parametrize("levels", [2, 5, 256])
    @pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
    def test_sums_to_one(self, dtype: torch.dtype, levels: int) -> None:
        x = (torch.arange(levels) / (levels - 1)).to(dtype).view(-1, 1, 1)
        total = self.extreme(dtype, levels).log_prob(x).exp().sum(0)
        tolerance = 1e-12 if dtype == torch.float64 else 1e-5
        torch.testing.assert_close(total, torch.ones_like(total), rtol=0, atol=tolerance)

    def test_against_scipy(self) -> None:
        generator = torch.Generator().manual_seed(0)
        likelihood = likelihoods.DiscretisedLogisticMixture(num_mixtures=2, event_dim=1)
        raw = torch.randn(2 * 3 * 9, generator=generator, dtype=torch.float64)
        x = torch.tensor([0, 1, 50, 100, 128, 200, 253, 254, 255], dtype=torch.float64) / 255
        weight, loc, scale = raw.view(3, 2, 9).numpy()
        weight = scipy.special.softmax(weight, 0)
        loc = (1 + loc) / 2
        scale = positive_scale(torch.tensor(scale), 1e-3, 1e2).numpy() / 2
        low = np.where(x == 0, -np.inf, x - 0.5 / 255)
        high = np.where(x == 1, np.inf, x + 0.5 / 255)
        mass = scipy.stats.logistic.cdf(high, loc, scale) - scipy.stats.logistic.cdf(low, loc, scale)
        expected = np.log((weight * mass).sum(0))
        np.testing.assert_allclose(likelihood(raw).base_dist.log_prob(x), expected, rtol=1e-10)

    def test_far_tails_have_their_slope(self) -> None:
        """A single sharp logistic far from the data: log p falls with 1 / scale, where a difference of
        two distribution functions is 0."""
        for dtype in (torch.float32, torch.float64):
            loc = torch.tensor([[0.9]], dtype=dtype, requires_grad=True)
            scale = torch.tensor([[1e-3]], dtype=dtype)
            p = DiscretisedLogisticMixtureDistribution(torch.zeros_like(scale), loc, scale)
            log_prob = p.log_prob(torch.tensor([51 / 255], dtype=dtype))
            log_prob.sum().backward()
            expected = -(0.9 - 0.2 - 0.5 / 255) * 1e3 + math.log(-math.expm1(-1e3 / 255))
            assert log_prob.item() == pytest.approx(expected, rel=1e-6)
            assert loc.grad.item() == pytest.approx(-1e3, rel=1e-6)

    def test_mean_is_exact(self) -> None:
        p = self.extreme(torch.float64, 256)
        x = (torch.arange(256, dtype=torch.float64) / 255).view(-1, 1, 1)
        probability = p.log_prob(x).exp()
        torch.testing.assert_close(p.mean, (x * probability).sum(0), rtol=0, atol=1e-11)
        second = (x.square() * probability).sum(0)
        torch.testing.assert_close(p.variance, second - p.mean.square(), rtol=0, atol=1e-9)

    def test_sampled_frequencies(self) -> None:
        torch.manual_seed(0)
        p = DiscretisedLogisticMixtureDistribution(
            torch.tensor([0.5, -0.5]), torch.tensor([0.1, 0.8]), torch.tensor([0.1, 0.05]), levels=5
        )
        x = torch.arange(5) / 4
        n = 50_000
        drawn = p.sample((n,))
        frequency = (drawn.unsqueeze(-1) == x).double().mean(0)
        probability = p.log_prob(x).exp().double()
        error = (frequency - probability) / (probability * (1 - probability) / n).sqrt()
        assert frequency.sum() == pytest.approx(1)
        assert error.abs().max() < 5

    def test_samples_are_the_levels_of_8_bit_data(self) -> None:
        torch.manual_seed(0)
        likelihood = likelihoods.DiscretisedLogisticMixture(num_mixtures=2, event_dim=1)
        x = likelihood(torch.randn(600, 6)).sample()
        assert torch.isin(x, torch.arange(256, dtype=torch.uint8).float() / 255).all()

    def test_all_levels_pass_the_check(self) -> None:
        for levels in (2, 16, 256, 65_536):
            x = torch.arange(levels) / (levels - 1)
            likelihoods.DiscretisedLogisticMixture(levels=levels).check(x)
        likelihoods.DiscretisedLogisticMixture().check(torch.tensor([0, 1], dtype=torch.uint8))

    @pytest.mark.parametrize(
        ("x", "message"),
        [
            (torch.tensor([0, 17], dtype=torch.uint8), "found 17 .*divide by 255"),
            (torch.tensor([0.0, 255.0]), "found 255 .*divide by 255"),
            (torch.tensor([-0.5]), "found -0.5 .*rescale"),
            (torch.tensor([0.5]), r"found 0.5 .*\(x \* 255\).round\(\) / 255"),
            (torch.tensor([math.nan]), "found nan .*fill the missing"),
        ],
    )
    def test_message_fits_the_data(self, x: torch.Tensor, message: str) -> None:
        with pytest.raises(ValueError, match=message):
            likelihoods.DiscretisedLogisticMixture().check(x)

    @pytest.mark.parametrize(
        "arguments", [{"num_mixtures": 0}, {"levels": 1}, {"min_scale": 0.0}, {"min_scale": 0.5}]
    )
    def test_bad_options(self, arguments: dict[str, float]) -> None:
        with pytest.raises(ValueError, match=next(iter(arguments))):
            likelihoods.DiscretisedLogisticMixture(**arguments)


def test_unvalidated_bad_data_is_not_looked_at() -> None:
    p = likelihoods.Bernoulli(event_dim=1)(torch.zeros(2))
    p._validate_args = False
    assert torch.isfinite(p.log_prob(torch.tensor([0.3, 12.0])))
