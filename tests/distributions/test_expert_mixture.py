"""The mixture of each datum: torch's density, the law of its draws, and the whole gradient."""

from __future__ import annotations

import math

import pytest
import torch
from torch.distributions import Categorical, Independent, MixtureSameFamily, Normal

from ppl_vae import guides, nets
from ppl_vae.distributions.expert_mixture import ExpertMixture
from tests.conftest import SIGMAS

pytestmark = pytest.mark.usefixtures("double")


def both(batch=(4,), components=3, dim=2):
    loc, scale = torch.randn(*batch, components, dim), 0.2 + torch.rand(*batch, components, dim)
    log_weight = torch.randn(*batch, components).log_softmax(-1)
    theirs = MixtureSameFamily(Categorical(logits=log_weight), Independent(Normal(loc, scale), 1))
    return ExpertMixture(loc, scale, log_weight), theirs


def test_density_and_moments_are_those_of_torchs_mixture():
    ours, theirs = both()
    z = torch.randn(5, 4, 2)
    torch.testing.assert_close(ours.log_prob(z), theirs.log_prob(z))
    torch.testing.assert_close(ours.expand((5, 4)).log_prob(z), theirs.log_prob(z))
    torch.testing.assert_close(ours.mean, theirs.mean)
    torch.testing.assert_close(ours.variance, theirs.variance)


@pytest.mark.parametrize("expanded", [False, True])
def test_draws_follow_it(expanded):
    q, _ = both((1,), dim=1)
    draws = q.expand((20_000, 1)).rsample() if expanded else q.rsample((20_000,))
    grid = torch.tensor([-1.5, -0.5, 0.0, 0.7, 1.5])
    exact = (q.log_weight.exp().unsqueeze(-1) * Normal(q.loc, q.scale).cdf(grid)).sum(-2).squeeze(0)
    share = (draws.reshape(-1, 1) < grid).double().mean(0)
    assert ((share - exact).abs() < SIGMAS * (exact * (1 - exact) / 20_000).sqrt()).all()


def test_the_pathwise_gradient_is_whole():
    """Of E[z^4 + z], which is known."""
    loc = torch.tensor([[-1.0], [0.5]], requires_grad=True)
    scale = torch.tensor([[0.6], [1.2]], requires_grad=True)
    weight = torch.tensor([0.3, 0.7])
    moment = loc**4 + 6 * loc**2 * scale**2 + 3 * scale**4 + loc
    exact = torch.autograd.grad((weight.unsqueeze(-1) * moment).sum(), [loc, scale])
    z = ExpertMixture(loc, scale, weight.log()).rsample((40_000,))
    parts = [
        torch.autograd.grad((part**4 + part).mean(), [loc, scale], retain_graph=True) for part in z.split(400)
    ]
    for found, known in zip(map(torch.stack, zip(*parts)), exact):
        error = found.std(0) / math.sqrt(len(found))
        assert ((found.mean(0) - known).abs() < SIGMAS * error).all()


def test_learned_weights_take_the_reparameterisation_away():
    assert both()[0].has_rsample
    logits = torch.zeros(2, requires_grad=True)
    assert not ExpertMixture(torch.zeros(2, 1), torch.ones(2, 1), logits.log_softmax(-1)).has_rsample
    with pytest.raises(ValueError, match=r"loc and scale are \(\*batch, C, d\)"):
        ExpertMixture(torch.zeros(2, 1), torch.ones(2, 1), torch.zeros(3))


def test_the_sets_of_views_that_are_seen():
    """Of three views, the second of which the second datum lacks: 7 products, and 3."""
    guide = guides.MixtureOfProducts([nets.MLPEncoder((2,), 2, (3,)) for _ in range(3)])
    views = [torch.randn(2, 2) for _ in range(3)]
    views[1][1] = torch.nan
    q = guide.posterior(*views)
    torch.testing.assert_close(
        q.log_weight.exp().sort(-1).values, torch.tensor([[1 / 7] * 7, [0.0] * 4 + [1 / 3] * 3])
    )
    last = q.log_weight[1].isfinite().nonzero()[-1]  # the set of the first and the third
    means, scales = zip(*(guide.encoders[number](views[number][1]) for number in (0, 2)))
    precision = sum(scale**-2 for scale in scales)
    torch.testing.assert_close(q.scale[1, last][0], precision.rsqrt())
    expected = sum(mean * scale**-2 for mean, scale in zip(means, scales)) / precision
    torch.testing.assert_close(q.loc[1, last][0], expected)
    nothing = guide.posterior(*(torch.full((1, 2), torch.nan) for _ in range(3)))
    z = torch.randn(1, 2)
    torch.testing.assert_close(nothing.log_prob(z), Normal(0.0, 1.0).log_prob(z).sum(-1))
