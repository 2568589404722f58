"""Which sites look across the slices of an inner plate."""

from __future__ import annotations

import pyro
import pyro.distributions as dist
import pytest
import torch
from torch import nn

import ppl_vae as pv
from ppl_vae import estimators
from ppl_vae.core.slices import reach_of

pytestmark = pytest.mark.usefixtures("double")

HOW = {
    "own": lambda u, w: u,
    "mean": lambda u, w: w * u.mean(-2, keepdim=True),
    "product": lambda u, w: torch.einsum("ij,jb->ib", w.expand(4, 4), u),
    "shift": lambda u, w: u.roll(1, -2),
    "running sum": lambda u, w: u.cumsum(-2),
    "outside": lambda u, w: u,
}


class Guide(nn.Module):
    def __init__(self, fn):
        super().__init__()
        self.fn = fn

    def forward(self, x):
        with pyro.plate("data", len(x), dim=-1), pyro.plate("pixels", 4, dim=-2):
            u = pyro.sample("u", self.fn())
            pyro.sample("v", dist.Bernoulli(0.2 + 0.2 * u.roll(1, -2).clamp(max=2)))


class Model(nn.Module):
    """What is read of u is multiplied by a weight that is zero at first, as a last layer often is."""

    def __init__(self, how, fn):
        super().__init__()
        self.how, self.fn, self.weight = how, fn, nn.Parameter(torch.zeros(()))

    def forward(self, x):
        with pyro.plate("data", len(x), dim=-1):
            with pyro.plate("pixels", 4, dim=-2):
                u = pyro.sample("u", self.fn())
                pyro.sample("v", dist.Bernoulli(0.5 * torch.ones(())))
                loc = self.weight * HOW[self.how](u.to(x.dtype), self.weight)
                pyro.sample("x", dist.Normal(loc, 1.0), obs=x.T)
            if self.how == "outside":
                pyro.sample("y", dist.Normal(self.weight * u.to(x.dtype).sum(-2), 1.0), obs=x[:, 0])


@pytest.mark.parametrize(
    "fn",
    [
        lambda: dist.Bernoulli(torch.tensor(0.4)),
        lambda: dist.Categorical(torch.ones(4)),
        lambda: dist.Poisson(torch.tensor(2.0)),
    ],
    ids=["Bernoulli", "Categorical", "Poisson"],
)
@pytest.mark.parametrize("how", HOW)
def test_what_looks_across_is_found_though_its_weights_are_zero(how, fn):
    model = Model(how, fn)
    x, before = torch.randn(3, 4), model.weight.detach().clone()
    state = torch.get_rng_state()
    reach = reach_of(model, Guide(fn), (x,), {})
    assert {each[:3] for each in reach.across if each[1] == "model"} == (
        set() if how in ("own", "outside") else {("u", "model", "x")}
    )
    assert {each for each in reach.across if each[1] == "guide"} == {("u", "guide", "v", "pixels")}
    assert reach.outside == ({("u", "model", "y")} if how == "outside" else set())
    assert torch.equal(model.weight, before)
    assert torch.equal(torch.get_rng_state(), state)


def test_a_program_within_a_function_is_tried_with_noise_too():
    model, guide = (
        Model("mean", lambda: dist.Bernoulli(torch.tensor(0.4))),
        Guide(lambda: dist.Bernoulli(torch.tensor(0.4))),
    )
    x, before = torch.randn(3, 4), model.weight.detach().clone()
    loss = model.weight.square()
    reach = reach_of(*pv.Pair(model, guide).pyro(), (x,), {})
    assert ("u", "model", "x", "pixels") in reach.across
    assert torch.equal(model.weight, before)
    loss.backward()  # a graph from before goes through
    assert model.weight.grad == 0


class Turned(nn.Module):
    """An inner plate of columns; the location is turned as if several particles had no dim for it."""

    def __init__(self, noisy):
        super().__init__()
        self.net, self.noisy = nn.Linear(2, 3), noisy

    def forward(self, x):
        columns = pyro.plate("columns", 3, dim=-2)
        with pyro.plate("data", len(x), dim=-1):
            z = pyro.sample("z", dist.Normal(x.new_zeros(2), 1.0).to_event(1))
            with columns:
                fn = dist.Normal(self.net(z).transpose(-1, -2), 1.0)
                whole = pyro.sample("x", fn, obs=x.T, obs_mask=x.T > 0 if self.noisy else None)
                pyro.sample("y", dist.Normal(whole, 1.0), obs=x.T)


class OfTurned(nn.Module):
    def __init__(self):
        super().__init__()
        self.net = nn.Linear(3, 2)

    def forward(self, x):
        with pyro.plate("data", len(x), dim=-1):
            pyro.sample("z", dist.Normal(self.net(x), 1.0).to_event(1))


@pytest.mark.parametrize("noisy", [False, True])  # what the model draws by itself differs in each run
def test_a_dim_beyond_the_particles_is_refused_or_they_are_drawn_one_by_one(noisy):
    pair, x = pv.Pair(Turned(noisy), OfTurned()), torch.randn(6, 3)
    with pytest.raises(
        pv.PairError, match=r"site 'x.*': 4 particles .* batch shape \[4, 4, 3, 6\] goes beyond"
    ):
        estimators.IWAE(4).draw(pair.model, pair.guide, x)
    with pytest.warns(UserWarning, match="drawn one by one.*goes beyond it"):
        pv.fit(pair, estimators.IWAE(4), x, epochs=1, progress=False, check=False, device="cpu")
