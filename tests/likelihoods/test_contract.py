"""What every likelihood promises, checked for each of them.

Statistical tests use fixed seeds and 5 standard errors.
"""

from __future__ import annotations

import copy
import inspect
import math
import pickle

import pyro
import pytest
import torch
from torch import Tensor

from ppl_vae import likelihoods

SHAPE = (2, 3, 4)

CASES = {
    "bernoulli": likelihoods.Bernoulli(),
    "continuous_bernoulli": likelihoods.ContinuousBernoulli(),
    "gaussian_fixed": likelihoods.Gaussian(scale=0.3),
    "gaussian_learned": likelihoods.Gaussian(),
    "gaussian_per_output": likelihoods.Gaussian(scale="per_output"),
    "laplace_fixed": likelihoods.Laplace(scale=0.3),
    "laplace_learned": likelihoods.Laplace(),
    "laplace_per_output": likelihoods.Laplace(scale="per_output"),
    "log_normal_fixed": likelihoods.LogNormal(scale=0.3),
    "log_normal_learned": likelihoods.LogNormal(),
    "log_normal_per_output": likelihoods.LogNormal(scale="per_output"),
    "poisson": likelihoods.Poisson(),
    "negative_binomial_fixed": likelihoods.NegativeBinomial(total_count=2.5),
    "negative_binomial_learned": likelihoods.NegativeBinomial(),
    "negative_binomial_per_output": likelihoods.NegativeBinomial(total_count="per_output"),
    "categorical": likelihoods.Categorical(num_classes=5),
    "ordinal": likelihoods.Ordinal(num_levels=5),
    "ordinal_two_levels": likelihoods.Ordinal(num_levels=2),
    "logistic_mixture": likelihoods.DiscretisedLogisticMixture(num_mixtures=3),
    "logistic_mixture_few_levels": likelihoods.DiscretisedLogisticMixture(num_mixtures=2, levels=4),
}

BAD_DATA = {
    "bernoulli": 0.5,
    "continuous_bernoulli": 1.25,
    "gaussian": math.inf,
    "laplace": -math.inf,
    "poisson": -3.0,
    "negative_binomial": 2.5,
    "log_normal": -2.0,
    "categorical": 5.0,
    "ordinal": 5.0,
    "logistic_mixture": 0.7111,
}

# Where an initial mean is clamped.
INNER = {
    "categorical": (0.4, 3.6),
    "ordinal": (0.4, 3.6),
    "ordinal_two_levels": (0.1, 0.9),
    "continuous_bernoulli": (0.05, 0.95),
}

DEVICES = [
    "cpu",
    pytest.param(
        "cuda",
        marks=[
            pytest.mark.cuda,
            pytest.mark.skipif(not torch.cuda.is_available(), reason="needs an NVIDIA GPU"),
        ],
    ),
]


@pytest.fixture(params=sorted(CASES))
def case(request: pytest.FixtureRequest) -> str:
    return request.param


@pytest.fixture
def likelihood(case: str) -> torch.nn.Module:
    return copy.deepcopy(CASES[case])


def raw_output(likelihood: torch.nn.Module, *batch: int, dtype: torch.dtype = torch.float64) -> Tensor:
    generator = torch.Generator().manual_seed(1)
    return torch.randn(*batch, *likelihood.raw_shape(SHAPE), generator=generator, dtype=dtype)


def data(likelihood: torch.nn.Module, *batch: int, dtype: torch.dtype = torch.float64) -> Tensor:
    torch.manual_seed(2)
    return likelihood(raw_output(likelihood, *batch, dtype=dtype)).sample().to(dtype)


def test_it_has_what_the_protocol_says(likelihood: torch.nn.Module) -> None:
    assert isinstance(likelihood, likelihoods.Likelihood)
    assert not isinstance(torch.nn.Linear(2, 2), likelihoods.Likelihood)


@pytest.mark.parametrize("batch", [(), (5,), (4, 5), (3, 4, 5)])
def test_shapes(likelihood: torch.nn.Module, batch: tuple[int, ...]) -> None:
    p = likelihood(raw_output(likelihood, *batch))
    assert p.batch_shape == batch
    assert p.event_shape == SHAPE
    assert p.sample().shape == (*batch, *SHAPE)
    assert p.sample((2,)).shape == (2, *batch, *SHAPE)
    assert p.mean.shape == (*batch, *SHAPE)
    assert p.log_prob(p.sample()).shape == batch


def test_data_meets_particles(likelihood: torch.nn.Module) -> None:
    raw, x = raw_output(likelihood, 4, 5), data(likelihood, 5)
    together = likelihood(raw).log_prob(x)
    alone = torch.stack([likelihood(raw[k]).log_prob(x) for k in range(4)])
    assert together.shape == (4, 5)
    torch.testing.assert_close(together, alone, rtol=1e-12, atol=1e-12)


def test_vectors(likelihood: torch.nn.Module) -> None:
    arguments = {name: getattr(likelihood, name) for name in inspect.signature(type(likelihood)).parameters}
    vector = type(likelihood)(**{**arguments, "event_dim": 1})
    (size,) = vector.raw_shape((6,))
    p = vector(torch.zeros(5, size))
    assert (p.batch_shape, p.event_shape) == ((5,), (6,))
    assert p.log_prob(p.sample()).shape == (5,)


def test_constructor_arguments_are_attributes(likelihood: torch.nn.Module) -> None:
    names = inspect.signature(type(likelihood)).parameters
    rebuilt = type(likelihood)(**{name: getattr(likelihood, name) for name in names})
    assert repr(rebuilt) == repr(likelihood)
    assert likelihood.event_dim == 3
    rebuilt.load_state_dict(likelihood.state_dict())


def test_samples_are_in_the_support(likelihood: torch.nn.Module) -> None:
    for dtype in (torch.float32, torch.float64):
        raw = 5 * raw_output(likelihood, 50, dtype=dtype)
        x = likelihood(raw).sample()
        likelihood.check(x)
        assert torch.isfinite(likelihood(raw).log_prob(x)).all()


def test_mean_and_variance_agree_with_samples(likelihood: torch.nn.Module, case: str) -> None:
    if case in ("log_normal_learned", "log_normal_per_output"):
        pytest.skip("at scales of 1 and more its fourth moment is one of rare giants")
    torch.manual_seed(3)
    p = likelihood(raw_output(likelihood))
    n = 20_000
    x = p.sample((n,)).double()
    error = (x.mean(0) - p.mean) / (p.variance / n).sqrt()
    assert error.abs().max() < 5
    spread = ((x - p.mean).square() - p.variance).mean(0)
    deviation = (x - p.mean).square().std(0) / math.sqrt(n)
    assert (spread / deviation).abs().max() < 5.5  # squares have heavier tails than a normal


def test_every_log_prob_is_finite_and_has_a_finite_gradient(likelihood: torch.nn.Module) -> None:
    x = data(likelihood, 5, dtype=torch.float32)
    for size in (0.0, 1.0, 1e2, 1e4, -1e4):
        raw = (size * torch.ones_like(raw_output(likelihood, 5, dtype=torch.float32))).requires_grad_()
        log_prob = likelihood(raw).log_prob(x)
        log_prob.sum().backward()
        assert torch.isfinite(log_prob).all()
        assert torch.isfinite(raw.grad).all()
    for parameter in likelihood.parameters():
        assert torch.isfinite(parameter.grad).all()


def test_gradient_is_the_derivative(likelihood: torch.nn.Module) -> None:
    raw, x = raw_output(likelihood, 2).requires_grad_(), data(likelihood, 2)
    likelihood = likelihood.double()
    assert torch.autograd.gradcheck(lambda r: likelihood(r).log_prob(x), raw)
    zero = torch.zeros_like(raw).requires_grad_()  # where a decoder may start, and kinks may hide
    if "laplace" not in type(likelihood).__name__.lower():
        assert torch.autograd.gradcheck(lambda r: likelihood(r).log_prob(x), zero)


def test_float32_is_close_to_float64(likelihood: torch.nn.Module) -> None:
    x, raw = data(likelihood, 20), 3 * raw_output(likelihood, 20)
    raw = raw.float().double()
    x = x.float().double()
    exact = copy.deepcopy(likelihood).double()(raw).base_dist.log_prob(x)
    single = likelihood(raw.float()).base_dist.log_prob(x.float())
    assert single.dtype == torch.float32
    error = (single.double() - exact).abs() / exact.abs().clamp(min=1)
    # Heavy counts cost digits: x log(r) - log(x!) cancels. The others keep all they have.
    tolerance = 1e-4 if x.max() > 100 else 1e-5 if x.max() > 1 else 5e-5
    assert error.max() < tolerance


def test_half_precision_is_widened(likelihood: torch.nn.Module) -> None:
    x = data(likelihood, 5, dtype=torch.float32)
    raw = raw_output(likelihood, 5).bfloat16()
    log_prob = likelihood(raw).log_prob(x)
    assert log_prob.dtype == torch.float32
    assert torch.equal(log_prob, likelihood(raw.float()).log_prob(x))


def test_initial_bias_gives_the_mean(likelihood: torch.nn.Module, case: str) -> None:
    mean = data(likelihood, 200).mean(0)
    mean = mean.clamp(*INNER.get(case, (-math.inf, math.inf)))
    bias = likelihood.initial_bias(mean)
    assert bias.shape == likelihood.raw_shape(SHAPE)
    assert bias.dtype == mean.dtype
    torch.testing.assert_close(likelihood(bias).mean, mean, rtol=1e-6, atol=1e-6)


def test_initial_bias_is_finite_at_the_ends(likelihood: torch.nn.Module) -> None:
    for end in (0.0, 1.0):
        bias = likelihood.initial_bias(torch.full(SHAPE, end))
        assert torch.isfinite(bias).all()
        assert torch.isfinite(likelihood(bias).mean).all()


@pytest.mark.parametrize("wrong", ["nan", "own"])
def test_bad_data_is_named(likelihood: torch.nn.Module, case: str, wrong: str) -> None:
    own = next(value for name, value in BAD_DATA.items() if case.startswith(name))
    bad = math.nan if wrong == "nan" else own
    x = data(likelihood, 5)
    x[3, 0, 1, 2] = bad
    start = rf"likelihoods\.{type(likelihood).__name__}: data must be .*found {bad:g}"
    with pytest.raises(ValueError, match=start):
        likelihood.check(x)
    raw = raw_output(likelihood, 4, 5)

    def model() -> None:
        with pyro.plate("data", 5, dim=-1):
            pyro.sample("x", likelihood(raw[0]), obs=x)

    trace = pyro.poutine.trace(model).get_trace()
    with pytest.raises(ValueError, match=start):
        trace.compute_log_prob()
    for p in (likelihood(raw), likelihood(raw[0]).expand((4, 5)), likelihood(raw).mask(True)):
        with pytest.raises(ValueError, match=start):
            p.log_prob(x)


def test_wrong_shape_is_still_a_shape_error(likelihood: torch.nn.Module) -> None:
    p = likelihood(raw_output(likelihood, 5))
    with pytest.raises(ValueError, match="not broadcastable"):
        p.log_prob(data(likelihood, 5)[..., :3])


def test_expand_mask_copy_and_pickle(likelihood: torch.nn.Module) -> None:
    raw, x = raw_output(likelihood, 5), data(likelihood, 5)
    with torch.no_grad():
        p = likelihood(raw)
    expected = p.log_prob(x)
    torch.testing.assert_close(p.expand((4, 5)).log_prob(x), expected.expand(4, 5))
    assert p.expand((4, 5)).sample().shape == (4, 5, *SHAPE)
    assert p.expand((4, 5)).mean.shape == (4, 5, *SHAPE)
    observed = torch.tensor([True, False, True, True, False])
    torch.testing.assert_close(p.mask(observed).log_prob(x), expected * observed)
    pixels = torch.rand(5, *SHAPE, generator=torch.Generator().manual_seed(4)) < 0.5
    masked = p.base_dist.mask(pixels).to_event(3)
    torch.testing.assert_close(masked.log_prob(x), (p.base_dist.log_prob(x) * pixels).sum((-3, -2, -1)))
    for twin in (copy.deepcopy(p), pickle.loads(pickle.dumps(p))):
        assert torch.equal(twin.log_prob(x), expected)
        assert torch.equal(twin.expand((4, 5)).log_prob(x), p.expand((4, 5)).log_prob(x))


def test_channels_are_stacked_first_parameter_first(likelihood: torch.nn.Module) -> None:
    """Changing one spatial position of all the raw channels changes that position and no other."""
    raw = raw_output(likelihood)
    moved = raw.clone()
    moved[:, 1, 2] *= -2.0  # not a shift: that would leave a softmax where it is
    changed = likelihood(raw).mean != likelihood(moved).mean
    assert changed[:, 1, 2].all()
    assert changed.sum() == SHAPE[0]


def test_wrong_number_of_channels(likelihood: torch.nn.Module) -> None:
    channels = likelihood.raw_shape((1, 3, 4))[0]
    if channels == 1:
        pytest.skip("one parameter per output divides any number of channels")
    with pytest.raises(ValueError, match=r"build the decoder with shape=likelihood\.raw_shape"):
        likelihood(torch.zeros(5, channels + 1, 3, 4))


def test_wrong_dims(likelihood: torch.nn.Module) -> None:
    with pytest.raises(ValueError, match="event_dim=3"):
        likelihood(torch.zeros(5, 4))
    with pytest.raises(ValueError, match="event_dim=1"):
        likelihood.raw_shape((4,))
    with pytest.raises(ValueError, match="event_dim must be a positive integer"):
        type(likelihood)(
            **{"event_dim": 0},
            **{name: 3 for name in ("num_classes", "num_levels") if hasattr(likelihood, name)},
        )


@pytest.mark.parametrize("device", DEVICES)
def test_runs_on(likelihood: torch.nn.Module, device: str) -> None:
    likelihood = likelihood.to(device)
    raw = raw_output(likelihood, 3, 5, dtype=torch.float32).to(device).requires_grad_()
    x = data(copy.deepcopy(likelihood).cpu(), 5, dtype=torch.float32).to(device)
    p = likelihood(raw)
    log_prob = p.log_prob(x)
    log_prob.sum().backward()
    assert log_prob.device == raw.device == p.mean.device == p.sample().device
    assert torch.isfinite(raw.grad).all()
    likelihood.check(x)
    assert likelihood.initial_bias(x.mean(0)).device == raw.device
    on_cpu = copy.deepcopy(likelihood).cpu()(raw.detach().cpu()).log_prob(x.cpu())
    torch.testing.assert_close(log_prob.detach().cpu(), on_cpu, rtol=1e-5, atol=1e-4)
