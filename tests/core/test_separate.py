"""The three gradients of log w, apart: each checked against automatic differentiation done by hand."""

from __future__ import annotations

import pyro
import pyro.distributions as dist
import pytest
import torch
from pyro.distributions import transforms
from torch import nn

from ppl_vae import Pair, PairError, estimators
from ppl_vae.core import separate
from ppl_vae.core.drawing import draw
from ppl_vae.testing import oracles
from tests.oracle import make_pair

pytestmark = pytest.mark.usefixtures("double")


def gradients(term, pair):
    found = torch.autograd.grad(term.sum(), list(pair.parameters()), retain_graph=True, allow_unused=True)
    return [torch.zeros_like(p) if g is None else g for g, p in zip(found, pair.parameters(), strict=True)]


def both(pair, batch, num_particles):
    drawn = []
    for function in (draw, separate.draw):
        pyro.set_rng_seed(3)
        drawn.append(function(pair.model, pair.guide, batch, num_particles=num_particles))
    return drawn


class Flow(nn.Module):
    """A guide whose first draw conditions a flow for the second; with dropout and BatchNorm on its way."""

    def __init__(self, flow, noise=True):
        super().__init__()
        self.net = nn.Sequential(nn.Linear(2, 8), nn.BatchNorm1d(8) if noise else nn.Tanh(), nn.Linear(8, 2))
        self.dropout = nn.Dropout(0.5 if noise else 0.0)
        self.top = nn.Linear(1, 2)
        self.flow = flow

    def forward(self, x):
        with pyro.plate("data", len(x), dim=-1):
            loc = self.net(x)
            top = pyro.sample("top", dist.Normal(loc[..., :1], 0.6).to_event(1))
            bottom = self.dropout(self.top(top)) + loc
            base = dist.Normal(bottom, 0.8).to_event(1)
            pyro.sample("z", dist.TransformedDistribution(base, [self.flow]))


class FlowModel(nn.Module):
    def __init__(self):
        super().__init__()
        self.weight = nn.Parameter(torch.tensor(0.7))

    def forward(self, x):
        with pyro.plate("data", len(x), dim=-1):
            top = pyro.sample("top", dist.Normal(x.new_zeros(1), 1.0).to_event(1))
            z = pyro.sample("z", dist.Normal(top * self.weight, x.new_ones(2)).to_event(1))
            pyro.sample("x", dist.Normal(z.tanh() + self.weight * top, 0.5).to_event(1), obs=x)


def pairs():
    x = torch.randn(5, 5)
    yield "full rank", make_pair(perturb=0.3), (x,)
    oracle = oracles.chain()
    yield "chain", oracle.pair, oracle.batch
    for name, flow in (
        ("autoregressive", transforms.affine_autoregressive(2, [8])),
        ("coupling", transforms.spline_coupling(2, count_bins=4)),
    ):
        yield name, Pair(FlowModel(), Flow(flow.double()).double()), (x[:, :2],)


@pytest.mark.parametrize("num_particles", [1, 3])
@pytest.mark.parametrize("case", range(4))
def test_the_three_sum_to_the_whole(case, num_particles):
    _, pair, batch = list(pairs())[case]
    whole, parts = both(pair, batch, num_particles)
    torch.testing.assert_close(parts.log_weight, whole.log_weight, rtol=1e-7, atol=1e-7)
    weight = torch.randn_like(whole.log_weight)
    expected = gradients(weight * whole.log_weight, pair)
    terms = (parts.model_term, parts.path_term, -parts.score_term)
    summed = [sum(g) for g in zip(*(gradients(weight * term, pair) for term in terms), strict=True)]
    for got, wanted in zip(summed, expected, strict=True):
        torch.testing.assert_close(got, wanted, rtol=1e-6, atol=1e-6)


def test_model_path_and_score_touch_only_their_own():
    pair, x = make_pair(perturb=0.3), torch.randn(4, 5)
    parts = separate.draw(pair.model, pair.guide, (x,), num_particles=3)
    model, guide = len(list(pair.model.parameters())), len(list(pair.guide.parameters()))
    for term, moved in ((parts.model_term, 0), (parts.path_term, 1), (parts.score_term, 1)):
        touched = [bool((g != 0).any()) for g in gradients(term, pair)]
        assert any(touched[:model]) == (moved == 0)
        assert all(touched[model:]) == (moved == 1)
    assert guide == len(touched) - model


def test_the_score_is_taken_at_a_fixed_draw():
    pair, x = make_pair(perturb=0.3), torch.randn(4, 5)
    parts = separate.draw(pair.model, pair.guide, (x,), num_particles=3)
    z = parts.guide_trace.nodes["z"]["value"].detach()
    for got, wanted in zip(
        gradients(parts.score_term, pair), gradients(pair.guide.posterior(x).log_prob(z), pair), strict=True
    ):
        torch.testing.assert_close(got, wanted)


def test_the_guide_runs_once():
    """So dropout draws one mask and BatchNorm moves its averages once, as without the cut."""
    averages = []
    for function in (draw, separate.draw):
        torch.manual_seed(0)
        pair = Pair(FlowModel(), Flow(transforms.affine_coupling(2, hidden_dims=[8]))).double()
        pyro.set_rng_seed(1)
        x = torch.randn(6, 2)
        particles = function(pair.model, pair.guide, (x,), num_particles=1)
        averages.append(
            (pair.guide.net[1].running_mean, pair.guide.net[1].num_batches_tracked, particles.log_weight)
        )
    for first, second in zip(*averages, strict=True):
        torch.testing.assert_close(first, second, rtol=1e-9, atol=1e-9)
    assert averages[0][1] == 1


def test_a_shared_module_counts_once_for_each_program():
    """A prior that uses the guide's own network, as a VampPrior's does."""
    net = nn.Linear(2, 2).double()

    class Model(nn.Module):
        def __init__(self):
            super().__init__()
            self.net = net
            self.inputs = nn.Parameter(torch.randn(1, 2))

        def forward(self, x):
            with pyro.plate("data", len(x), dim=-1):
                z = pyro.sample("z", dist.Normal(self.net(self.inputs).expand(len(x), 2), 1.0).to_event(1))
                pyro.sample("x", dist.Normal(z, 1.0).to_event(1), obs=x)

    class Guide(nn.Module):
        def __init__(self):
            super().__init__()
            self.net = net

        def forward(self, x):
            with pyro.plate("data", len(x), dim=-1):
                pyro.sample("z", dist.Normal(self.net(x), 0.7).to_event(1))

    pair, x = Pair(Model(), Guide()), torch.randn(3, 2)
    whole, parts = both(pair, (x,), 2)
    terms = (parts.model_term, parts.path_term, -parts.score_term)
    summed = [sum(g) for g in zip(*(gradients(term, pair) for term in terms), strict=True)]
    for got, wanted in zip(summed, gradients(whole.log_weight, pair), strict=True):
        torch.testing.assert_close(got, wanted)
    assert (gradients(parts.model_term, pair)[-1] != 0).any()


def test_without_gradients_nothing_is_cut():
    pair, x = make_pair(perturb=0.3), torch.randn(4, 5)
    with torch.no_grad():
        parts = separate.draw(pair.model, pair.guide, (x,), num_particles=2)
    assert not parts.draws
    assert (parts.path_term == 0).all()


def test_a_flow_without_an_inverse_is_refused_by_name():
    pair = Pair(FlowModel(), Flow(transforms.planar(2), noise=False)).double()
    with pytest.raises(PairError, match=r"sites \['z'\].*no inverse.*estimators.ELBO"):
        estimators.STL().differentiable_loss(pair.model, pair.guide, torch.randn(4, 2))
    estimators.ELBO().differentiable_loss(pair.model, pair.guide, torch.randn(4, 2)).backward()


def test_a_flow_whose_inverse_is_another_in_training_is_refused_by_name():
    pair, x = Pair(FlowModel(), Flow(transforms.BatchNorm(2))).double(), torch.randn(4, 2)
    with pytest.raises(PairError, match="site 'z': a BatchNorm transform"):
        separate.draw(pair.model, pair.guide, (x,))
    pair.eval()
    whole, parts = both(pair, (x,), 1)
    torch.testing.assert_close(parts.log_weight, whole.log_weight)


def test_kl_weights_reach_every_term():
    pair, x = make_pair(perturb=0.3), torch.randn(4, 5)
    whole, parts = (p.with_kl_weight({"z": 0.3}) for p in both(pair, (x,), 1))
    terms = (parts.model_term, parts.path_term, -parts.score_term)
    summed = [sum(g) for g in zip(*(gradients(term, pair) for term in terms), strict=True)]
    for got, wanted in zip(summed, gradients(whole.log_weight, pair), strict=True):
        torch.testing.assert_close(got, wanted)
