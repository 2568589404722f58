"""EnumeratedELBO in inner plates: against Pyro's TraceEnum_ELBO, and what it refuses there."""

from __future__ import annotations

import pyro
import pyro.distributions as dist
import pytest
import torch
from pyro.infer import TraceEnum_ELBO, config_enumerate
from torch import nn

import ppl_vae as pv
from ppl_vae import PairError, estimators
from ppl_vae.estimators.enumerated import EnumeratedELBO
from ppl_vae.testing import check_pair
from tests.capture.helpers import assert_same_steps, sgd
from tests.core.summed_programs import STATES, Nested

pytestmark = [
    pytest.mark.usefixtures("double"),
    # of a site that stands after a plate, which Pyro cannot see to be independent of what is in it
    pytest.mark.filterwarnings("ignore:at model site:RuntimeWarning"),
]

SLICES = 4


class Guide(nn.Module):
    """c for each datum, then u for each pixel; `first` draws a normal z before them."""

    def __init__(self, first=False):
        super().__init__()
        self.first = first
        self.c, self.u = nn.Parameter(torch.randn(2)), nn.Parameter(torch.randn(2, STATES))
        self.slope = nn.Parameter(torch.randn(STATES))

    def forward(self, x, y):
        with pyro.plate("data", len(x), dim=-1):
            z = pyro.sample("z", dist.Normal(0.3 * y, 0.5)) if self.first else 0.0 * y
            c = pyro.sample("c", dist.Categorical(logits=self.c * (y + z).unsqueeze(-1)))
            with pyro.plate("pixels", x.shape[1], dim=-2):
                logits = self.u[c] + self.slope * x.T.unsqueeze(-1) + 0.1 * z[..., None]
                pyro.sample("u", dist.Categorical(logits=logits))


class WithNormal(Nested):
    def forward(self, x, y):
        with pyro.plate("data", len(x), dim=-1):
            z = pyro.sample("z", dist.Normal(0.0, 1.0))
            c = pyro.sample("c", dist.Categorical(logits=self.c))
            with pyro.plate("pixels", x.shape[1], dim=-2):
                u = pyro.sample("u", dist.Categorical(logits=self.u[c]))
                pyro.sample("x", dist.Normal(self.loc[c, u] + z, 1.0), obs=x.T)
            pyro.sample("y", dist.Normal(self.y[c], 1.0), obs=y)


def batch():
    return torch.randn(3, SLICES), torch.randn(3)


def results(loss, pair):
    return [loss.detach(), *torch.autograd.grad(loss, list(pair.parameters()))]


@pytest.mark.parametrize("num_particles", [1, 2])
def test_it_equals_pyros_sum_over_the_slices(num_particles):
    pair, given = pv.Pair(Nested(), Guide()), batch()
    ours = EnumeratedELBO(num_particles).differentiable_loss(pair.model, pair.guide, *given)
    theirs = TraceEnum_ELBO(max_plate_nesting=2).differentiable_loss(
        pair.model, config_enumerate(pair.guide), *given
    )
    for one, other in zip(results(ours, pair), results(theirs, pair), strict=True):
        torch.testing.assert_close(one, other, rtol=1e-10, atol=1e-10)


def test_what_is_drawn_before_is_one_draw_for_all_values():
    pair, given = pv.Pair(WithNormal(), Guide(first=True)), batch()
    particles = EnumeratedELBO(2).draw(pair.model, pair.guide, *given)
    z = particles.guide_trace.nodes["z"]["value"].unflatten(0, (2, -1))
    assert z.shape[1] == 2 * STATES
    assert (z == z[:, :1]).all()
    assert len(z.unique()) == 2 * 3
    # Pyro's, with the same two draws of z
    total = 0.0
    for k in range(2):
        only_z = pyro.poutine.trace(pair.guide).get_trace(*given)
        for name in ("c", "u"):
            only_z.remove_node(name)
        only_z.nodes["z"]["value"] = z[k, 0].reshape(3)
        loss = TraceEnum_ELBO(max_plate_nesting=2).differentiable_loss(
            pair.model, pyro.poutine.replay(config_enumerate(pair.guide), trace=only_z), *given
        )
        total = total + loss / 2
    torch.testing.assert_close(-EnumeratedELBO(2).bound(particles).sum(), total)


def test_a_pair_with_finite_sites_in_pixels_is_checked_trained_and_captured():
    pair, given = pv.Pair(Nested(), Guide()), batch()
    check_pair(pair, *given, estimator=EnumeratedELBO())
    assert_same_steps(pair, EnumeratedELBO(), [given], sgd, steps=3)


def test_the_mask_and_the_scale_stand_in_the_terms_and_not_in_the_weights():
    mask = torch.tensor([[True, False, True], [True, True, True], [False, True, True], [True, True, False]])

    class Treated(nn.Module):
        def __init__(self, program):
            super().__init__()
            self.program = program

        def forward(self, x, y):
            with pyro.poutine.scale(scale=0.7), pyro.poutine.mask(mask=mask):
                return self.program(x)

    class Pixels(nn.Module):
        def __init__(self, observed):
            super().__init__()
            self.observed = observed
            self.logits, self.loc = nn.Parameter(torch.randn(STATES)), nn.Parameter(torch.randn(STATES))

        def forward(self, x):
            with pyro.plate("data", len(x), dim=-1), pyro.plate("pixels", SLICES, dim=-2):
                u = pyro.sample("u", dist.Categorical(logits=self.logits))
                if self.observed:
                    pyro.sample("x", dist.Normal(self.loc[u], 1.0), obs=x.T)

    model, guide = Pixels(True), Pixels(False)
    x, y = batch()
    bound = EnumeratedELBO().bound(EnumeratedELBO().draw(Treated(model), Treated(guide), x, y))
    log_q, log_p = guide.logits.log_softmax(0), model.logits.log_softmax(0)
    terms = log_p - log_q + dist.Normal(model.loc, 1.0).log_prob(x.T[..., None])
    torch.testing.assert_close(bound, 0.7 * (mask * (log_q.exp() * terms).sum(-1)).sum(0))


# what is refused


class Mixed(nn.Module):
    """Bits of pixels, and data that look at them in one way or another."""

    def __init__(self, how, observed):
        super().__init__()
        self.how, self.observed = how, observed
        self.weight = nn.Parameter(torch.zeros(SLICES, SLICES))  # which hides at first what it looks at
        self.logits = nn.Parameter(torch.randn(()))

    def forward(self, x):
        with pyro.plate("data", len(x), dim=-1):
            with pyro.plate("pixels", SLICES, dim=-2):
                u = pyro.sample("u", dist.Bernoulli(logits=self.logits))
                if self.observed and self.how == "product":
                    pyro.sample("x", dist.Normal(self.weight @ u, 1.0), obs=x.T)
            if self.observed and self.how == "outside":
                total = u.sum(-2, keepdim=u.dim() > 2)
                pyro.sample("x", dist.Normal(total, 1.0), obs=x[:, 0])


@pytest.mark.parametrize("how", ["product", "outside"])
@pytest.mark.parametrize("by", ["guide", "model"])
def test_what_looks_across_the_slices_is_refused_by_site_and_number(how, by):
    model = Mixed(how, True)
    guide = Mixed(how, False) if by == "guide" else nn.Identity()
    with pytest.raises(PairError) as error:
        EnumeratedELBO().draw(model, guide, torch.randn(3, SLICES))
    message = str(error.value)
    assert "'u'" in message
    assert "'x'" in message
    assert f"{2**SLICES} combinations" in message
    assert "estimators.VIMCO" in message


def test_a_chain_in_the_guide_with_too_many_combinations_is_refused_with_the_way_out():
    class Chain(nn.Module):
        def forward(self, x):
            with pyro.plate("data", len(x), dim=-1):
                for t in range(12):
                    pyro.sample(f"s_{t}", dist.Categorical(torch.ones(3)))

    with pytest.raises(PairError, match=r"531,441 combinations.*pyro.markov"):
        EnumeratedELBO().draw(Chain(), Chain(), torch.zeros(3))


def test_a_finite_site_outside_the_plate_of_data_is_refused():
    class Global(nn.Module):
        def forward(self, x):
            pyro.sample("k", dist.Categorical(torch.ones(3)))

    with pytest.raises(PairError, match="site 'k' of the guide is finite and stands outside"):
        EnumeratedELBO().draw(Global(), Global(), torch.zeros(3))


def test_sums_of_the_model_beside_sums_of_the_guide_in_slices_are_refused():
    class Half(Guide):
        def forward(self, x, y):
            with pyro.plate("data", len(x), dim=-1), pyro.plate("pixels", x.shape[1], dim=-2):
                pyro.sample("u", dist.Categorical(logits=self.u[0] + self.slope * x.T.unsqueeze(-1)))

    with pytest.raises(PairError, match="leave them all out of the guide, or none"):
        EnumeratedELBO().draw(Nested(), Half(), *batch())
    assert estimators.ELBO().differentiable_loss(Nested(), Half(), *batch()).isfinite()
