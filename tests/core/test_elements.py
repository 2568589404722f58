"""Elements of observed sites, and masks of them: against sums over single elements, written by hand."""

from __future__ import annotations

import math

import pyro
import pyro.distributions as dist
import pytest
import torch
from torch.distributions import transforms

import ppl_vae as pv
from ppl_vae import likelihoods
from ppl_vae.core.constraints import support_fault
from ppl_vae.core.elements import elements, masked
from ppl_vae.core.stacked import Stacked

pytestmark = pytest.mark.usefixtures("double")
B, D = 5, 4


def real(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def positive(*shape):
    return real(*shape).exp()


def inner(*shape):
    return real(*shape).sigmoid()


FAMILIES = {
    "normal": lambda: dist.Normal(real(B, D), positive(B, D)),
    "student": lambda: dist.StudentT(3.0, real(B, D), positive(B, D)),
    "log normal": lambda: dist.LogNormal(real(B, D), positive(B, D)),
    "gamma": lambda: dist.Gamma(positive(B, D), positive(B, D)),
    "beta": lambda: dist.Beta(positive(B, D) / 2, positive(B, D)),
    "uniform": lambda: dist.Uniform(positive(B, D) + 2, positive(B, D) + 9),
    "pareto": lambda: dist.Pareto(positive(B, D), positive(B, D)),
    "bernoulli": lambda: dist.Bernoulli(inner(B, D)),
    "binomial": lambda: dist.Binomial(7, inner(B, D)),
    "poisson": lambda: dist.Poisson(positive(B, D)),
    "zero inflated": lambda: dist.ZeroInflatedPoisson(positive(B, D), gate=inner(B, D)),
    "zero inflated counts": lambda: dist.ZeroInflatedNegativeBinomial(
        positive(B, D), logits=real(B, D), gate=inner(B, D)
    ),
    "geometric": lambda: dist.Geometric(inner(B, D)),
    "beta binomial": lambda: dist.BetaBinomial(positive(B, D), positive(B, D), 9),
    "categorical": lambda: dist.Categorical(logits=real(B, D, 3)),
    "mixture": lambda: dist.MixtureSameFamily(
        dist.Categorical(logits=real(B, D, 2)), dist.Normal(real(B, D, 2), 1.0)
    ),
}
OURS = {
    "Bernoulli": likelihoods.Bernoulli(1),
    "ContinuousBernoulli": likelihoods.ContinuousBernoulli(1),
    "Gaussian": likelihoods.Gaussian("per_output", event_dim=1),
    "Laplace": likelihoods.Laplace(event_dim=1),
    "LogNormal": likelihoods.LogNormal(event_dim=1),
    "Poisson": likelihoods.Poisson(1),
    "NegativeBinomial": likelihoods.NegativeBinomial(event_dim=1),
    "Categorical": likelihoods.Categorical(3, 1),
    "Ordinal": likelihoods.Ordinal(4, 1),
    "DiscretisedLogisticMixture": likelihoods.DiscretisedLogisticMixture(2, 8, event_dim=1),
    "Mixed": likelihoods.Mixed(
        (
            likelihoods.Gaussian(event_dim=1, num_columns=2),
            likelihoods.Categorical(3, event_dim=1),
            likelihoods.Poisson(event_dim=1),
        ),
        columns=((3, 1), (0,), (2,)),
    ),
}


def site(kind):
    """A site's distribution over D elements a datum, and one without that: theirs."""
    if kind in FAMILIES:
        return FAMILIES[kind]().to_event(1), FAMILIES[kind]()
    likelihood = OURS[kind].double()
    p = likelihood(real(B, *likelihood.raw_shape((D,)), seed=1))
    return p, None if kind == "Mixed" else p.base_dist


@pytest.mark.parametrize("kind", [*FAMILIES, *OURS])
def test_a_mask_leaves_the_sum_over_the_others_and_no_nan_reaches_anything(kind):
    p, single = site(kind)
    x = p.sample()
    seen = torch.rand(B, D, generator=torch.Generator().manual_seed(2)) < 0.6
    if single is None:  # by columns: the same row with gaps is the mixed likelihood's own marginal
        expected = p.log_prob(x.double().masked_fill(~seen, math.nan))
    else:
        expected = torch.stack([single.log_prob(x)[i][seen[i]].sum() for i in range(B)])
    for hidden in (x.double(), x.double().masked_fill(~seen, math.nan), x.double().masked_fill(~seen, -1e30)):
        part = masked(p, seen, "x")
        assert (part.batch_shape, part.event_shape) == ((B,), (D,))
        torch.testing.assert_close(part.log_prob(hidden), expected, rtol=1e-12, atol=1e-12)
        assert support_fault({"name": "x", "fn": part, "value": hidden}) is None
    every = elements(p, "x")
    assert every.batch_shape == (B, D)
    torch.testing.assert_close(every.log_prob(x).sum(-1), p.log_prob(x), rtol=1e-12, atol=1e-12)
    assert masked(p, seen, "x").sample().shape == x.shape


@pytest.mark.parametrize("kind", OURS)
def test_gradients_are_those_of_what_is_seen(kind):
    likelihood = OURS[kind].double()
    raw = real(B, *likelihood.raw_shape((D,)), seed=1).requires_grad_()
    p = likelihood(raw)
    x, seen = p.sample().double(), torch.tensor([True, False, True, False])
    got = torch.autograd.grad(masked(p, seen, "x").log_prob(x.masked_fill(~seen, math.nan)).sum(), raw)[0]
    terms = elements(likelihood(raw), "x").log_prob(x)
    expected = torch.autograd.grad(terms[:, seen].sum(), raw)[0]
    assert torch.equal(got, expected)
    assert bool(got.abs().sum() > 0)


def test_a_one_hot_vector_is_one_element():
    p = dist.OneHotCategorical(logits=real(B, D, 3)).to_event(1)
    x = p.sample()
    single = elements(p, "x")
    assert (single.batch_shape, single.event_shape) == ((B, D), (3,))
    seen = torch.rand(B, D, generator=torch.Generator().manual_seed(3)) < 0.5
    expected = (single.log_prob(x) * seen).sum(-1)
    for mask in (seen, seen[..., None].expand(B, D, 3)):
        got = masked(p, mask, "x").log_prob(x.masked_fill(~seen[..., None], math.nan))
        torch.testing.assert_close(got, expected)
    parted = seen[..., None].expand(B, D, 3).clone()
    parted[0, 0, 0] ^= True
    with pytest.raises(pv.PairError, match=r"site 'y': a one-hot vector is one choice.*\[5, 4\]"):
        masked(p, parted, "y")


def test_wrappers_are_undone():
    own = torch.tensor([True, True, False, True])
    base = dist.Normal(real(B, D), 1.0)
    x = real(B, D, seed=3)
    for p in (
        base.mask(own).to_event(1),
        base.to_event(1).mask(torch.arange(B) > 1),
        dist.Normal(real(D), 1.0).to_event(1).expand([B]),
        dist.ExpandedDistribution(dist.Normal(real(D), 1.0).to_event(1), (B,)),
        dist.TransformedDistribution(base.to_event(1), [transforms.ExpTransform()]),
        Stacked([dist.Normal(real(D), 1.0).to_event(1)] * B, -1),
        masked(base.to_event(1), own, "x"),
        base.to_event(2),
    ):
        value = x.exp() if isinstance(p, dist.TransformedDistribution) else x
        single = elements(p, "x")
        assert single.batch_shape == (B, D)
        summed = single.log_prob(value).flatten(-p.event_dim).sum(-1)
        torch.testing.assert_close(summed, p.log_prob(value), rtol=1e-12, atol=1e-12)
    both = masked(base.mask(own).to_event(1), torch.tensor([False, True, True, True]), "x")
    hidden = x.clone()
    hidden[:, [0, 2]] = math.nan  # what either mask hides
    torch.testing.assert_close(both.log_prob(hidden), base.log_prob(x)[:, [1, 3]].sum(-1))
    assert torch.equal(masked(base.to_event(1), False, "x").log_prob(x * math.nan), torch.zeros(B))
    assert torch.equal(masked(base.to_event(1), True, "x").log_prob(x), base.log_prob(x).sum(-1))


AFFINE = transforms.AffineTransform(torch.arange(D).double(), torch.full((D,), 2.0).double(), event_dim=1)
LOGISTIC = transforms.IndependentTransform(transforms.SigmoidTransform(), 1)


@pytest.mark.parametrize(
    "number_by_number",
    [
        [AFFINE],
        [AFFINE.inv, transforms.ExpTransform()],
        [LOGISTIC],
        [transforms.ComposeTransform([AFFINE, LOGISTIC])],
    ],
)
def test_transforms_of_an_event_that_go_number_by_number(number_by_number):
    p = dist.TransformedDistribution(dist.Normal(real(B, D), 1.0).to_event(1), number_by_number)
    x, seen = p.sample(), torch.tensor([True, False, True, False])
    single = elements(p, "x")
    assert single.batch_shape == (B, D)
    torch.testing.assert_close(single.log_prob(x).sum(-1), p.log_prob(x), rtol=1e-12, atol=1e-12)
    hidden = masked(p, seen, "x").log_prob(x.masked_fill(~seen, math.nan))
    torch.testing.assert_close(hidden, single.log_prob(x)[:, seen].sum(-1))


FLOW = transforms.SoftmaxTransform()
WHOLE = {
    "MultivariateNormal": dist.MultivariateNormal(torch.zeros(3), torch.eye(3)),
    "LowRankMultivariateNormal": dist.LowRankMultivariateNormal(
        torch.zeros(3), torch.ones(3, 1), torch.ones(3)
    ),
    "Multinomial": dist.Multinomial(4, torch.ones(3)),
    "DirichletMultinomial": dist.DirichletMultinomial(torch.ones(3), 4),
    "Dirichlet": dist.Dirichlet(torch.ones(3)).expand([2]).to_event(1),
    "SoftmaxTransform of its TransformedDistribution": dist.TransformedDistribution(
        dist.Normal(torch.zeros(3), 1.0).to_event(1), [FLOW]
    ),
    "draws one component": dist.MixtureSameFamily(
        dist.Categorical(torch.ones(2)), dist.Normal(torch.zeros(2, 3), 1.0).to_event(1)
    ),
}


@pytest.mark.parametrize("name", WHOLE)
def test_what_does_not_factorise_is_refused_by_name(name):
    with pytest.raises(pv.PairError, match=f"site 'pixels' does not factorise into elements: .*{name}"):
        elements(WHOLE[name], "pixels")
    with pytest.raises(pv.PairError, match="Give the site a likelihood whose elements are independent"):
        masked(WHOLE[name], torch.ones(3, dtype=torch.bool), "pixels")


@pytest.mark.parametrize(
    ("mask", "said"),
    [
        (torch.ones(B, D), "a Tensor of torch.float"),
        ([True] * D, "this is list"),
        (torch.ones(B, dtype=torch.bool), r"shape \[5\] does not fit its elements, of shape \[5, 4\]"),
        (torch.tensor(True), r"shape \[\] does not fit"),
        (torch.ones(2, B, D, dtype=torch.bool), r"shape \[2, 5, 4\] does not fit"),
    ],
)
def test_masks_that_do_not_fit_are_refused(mask, said):
    with pytest.raises(pv.PairError, match=f"site 'x'.*{said}"):
        masked(dist.Normal(real(B, D), 1.0).to_event(1), mask, "x")


def test_integer_data_and_a_custom_class():
    p = dist.Categorical(logits=real(B, D, 3)).to_event(1)
    x, seen = p.sample(), torch.tensor([True, False, False, True])
    expected = p.base_dist.log_prob(x)[:, seen].sum(-1)
    torch.testing.assert_close(masked(p, seen, "x").log_prob(x.masked_fill(~seen, 99)), expected)

    class Odd(dist.TorchDistribution):
        """Two numbers under one class that says that they are independent."""

        arg_constraints = {}  # noqa: RUF012

        def __init__(self):
            super().__init__(torch.Size(), torch.Size([2]))

        def elements(self):
            return dist.Normal(torch.zeros(2), 1.0)

    torch.testing.assert_close(
        masked(Odd(), torch.tensor([True, False]), "x").log_prob(torch.tensor([0.0, math.nan])),
        torch.tensor(-0.5 * math.log(2 * math.pi)),
    )


def test_a_program_with_a_mask_trains_and_is_right_under_a_plate_and_particles():
    """The linear-Gaussian evidence of the seen columns alone, by its own closed form."""
    weight, seen = real(D, 2), torch.tensor([True, False, True, True])

    def model(x):
        with pyro.plate("data", len(x), dim=-1):
            z = pyro.sample("z", dist.Normal(torch.zeros(2), 1.0).to_event(1))
            pyro.sample("x", masked(dist.Normal(z @ weight.T, 0.5).to_event(1), seen, "x"), obs=x)

    seen_weight = weight[seen]
    precision = torch.eye(2) + seen_weight.T @ seen_weight / 0.25
    covariance = precision.inverse()

    def guide(x):
        loc = x[:, seen] @ seen_weight @ covariance / 0.25
        with pyro.plate("data", len(x), dim=-1):
            pyro.sample("z", dist.MultivariateNormal(loc, covariance))

    x = real(B, D, seed=5)
    x[:, ~seen] = math.nan
    evidence = dist.MultivariateNormal(
        torch.zeros(3), seen_weight @ seen_weight.T + 0.25 * torch.eye(3)
    ).log_prob(x[:, seen])
    particles = pv.core.drawing.draw(model, guide, (x,), num_particles=3)
    torch.testing.assert_close(particles.log_weight, evidence.expand(3, B))
