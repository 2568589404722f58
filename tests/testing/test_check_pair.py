"""check_pair: every breach of the contract gives an error that names the site and the fix."""

from __future__ import annotations

import pyro
import pyro.distributions as dist
import pytest
import torch
from torch import nn

from ppl_vae import Pair, PairError, guides, likelihoods, models, nets
from ppl_vae.core import drawing
from ppl_vae.core.replaying import replayed, values_of
from ppl_vae.testing import check_pair
from tests.oracle import make_pair
from tests.programs import (
    BernoulliGuide,
    BernoulliModel,
    ChainGuide,
    ChainModel,
    GlobalMeanGuide,
    GlobalMeanModel,
)


class Model(nn.Module):
    """A normal latent decoded by `net`; each option breaks the contract in one way."""

    def __init__(self, net=None, *, events=1, observe=True, uses_x=False, site="z", scale=1.0):
        super().__init__()
        self.net = net or nn.Linear(2, 4)
        self.events, self.observe, self.uses_x, self.site, self.scale = events, observe, uses_x, site, scale

    def forward(self, x):
        with pyro.plate("data", len(x), dim=-1):
            z = pyro.sample(self.site, dist.Normal(x.new_zeros(2), 1.0).to_event(self.events))
            loc = self.net(z)
            if self.uses_x:
                loc = loc + pyro.sample("x", dist.Normal(loc, self.scale).to_event(1), obs=x)[..., :3]
                return
            pyro.sample("x", dist.Normal(loc, self.scale).to_event(1), obs=x if self.observe else None)


class Guide(nn.Module):
    def __init__(self, *, events=1, plated=True, dim=2, unused=False, scale=1.0):
        super().__init__()
        self.net = nn.Linear(4, dim)
        self.events, self.plated, self.scale = events, plated, scale
        if unused:
            self.idle = nn.Linear(1, 1)

    def forward(self, x):
        q = dist.Normal(self.net(x), self.scale).to_event(self.events)
        if not self.plated:
            return pyro.sample("z", dist.Normal(self.net(x).mean(0), 1.0).to_event(1))
        with pyro.plate("data", len(x), dim=-1):
            return pyro.sample("z", q)


class Reshaping(nn.Module):
    """Takes (B, 2) only."""

    def __init__(self):
        super().__init__()
        self.layer = nn.Conv1d(1, 2, 1)

    def forward(self, z):
        return self.layer(z.view(len(z), 1, 2)).view(len(z), 4)


class MixingParticles(nn.Module):
    """Centres its output over the first dim, which is the particles' when there are some."""

    def __init__(self):
        super().__init__()
        self.layer = nn.Linear(2, 4)

    def forward(self, z):
        out = self.layer(z)
        return out if z.dim() == 2 else out - out.mean(0)


class MixingData(nn.Module):
    """A softmax over the data."""

    def __init__(self):
        super().__init__()
        self.layer = nn.Linear(2, 4)

    def forward(self, z):
        return self.layer(z).softmax(-2)


class Broken(nn.Module):
    """Gives NaN."""

    def __init__(self):
        super().__init__()
        self.layer = nn.Linear(2, 4)

    def forward(self, z):
        return (self.layer(z) - 1e6).log()


X = torch.randn(6, 4, generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize(
    ("model", "guide", "fragment"),
    [
        (Model(site="zz"), Guide(), r"only in the model: \['zz'\]\n  only in the guide: \['z'\]"),
        (Model(), Guide(plated=False), "'z'.*outside the plate 'data'|different|outside"),
        (Model(events=0), Guide(events=0), r"to_event\(n\)"),
        (Model(), Guide(events=0), r"the guide cannot run.*|to_event"),
        (Model(nn.Linear(3, 4)), Guide(dim=3), r"event shape is \[2\] in the model but \[3\] in the guide"),
        (Model(observe=False), Guide(), "only in the model: \\['x'\\]"),
        (Model(MixingData()), Guide(), "changes when another leaves the batch"),
        (Model(Broken()), Guide(), "the model cannot run|site 'x'"),
        (Model(), Guide(unused=True), r"no gradient reaches \['guide.idle.weight', 'guide.idle.bias'\]"),
        (Model(scale=0.0), Guide(), "GreaterThan|scale"),
        (Model(nn.Linear(2, 5)), Guide(), "site 'x'|cannot run"),
    ],
    ids=[
        "misspelt site",
        "outside the plate",
        "event dims of both",
        "event dims of the guide",
        "latent size of the model",
        "observes nothing",
        "mixes data",
        "NaN",
        "no gradient",
        "zero scale",
        "wrong data shape",
    ],
)
def test_a_breach_is_named(model, guide, fragment):
    with pytest.raises(PairError, match=fragment):
        check_pair(Pair(model, guide), X)


@pytest.mark.parametrize("net", [Reshaping, MixingParticles])
def test_particles_that_mind_each_other_run_one_by_one(net):
    torch.manual_seed(0)
    pair = Pair(Model(net()), Guide())
    assert "one by one" in check_pair(pair, X).notes[0]
    values = {"z": torch.randn(3, 6, 2)}
    with pytest.warns(UserWarning, match="one by one"):
        together = drawing.draw(pair.model, pair.guide, (X,), num_particles=3)
    values = values_of(together)["z"]
    for number, value in enumerate(values):
        alone = replayed(pair, (X,), {"z": value})
        torch.testing.assert_close(alone.log_weight[0], together.log_weight[number])


def test_nan_in_the_data_is_named():
    x = X.clone()
    x[3, 1] = float("nan")
    with pytest.raises(PairError, match=r"NaN|support"):
        check_pair(Pair(Model(), Guide()), x)


def test_a_model_that_needs_its_observation_cannot_run_unconditioned():
    class Needy(nn.Module):
        def __init__(self):
            super().__init__()
            self.weight = nn.Parameter(torch.ones(()))

        def forward(self, x):
            with pyro.plate("data", len(x), dim=-1):
                z = pyro.sample("z", dist.Normal(x.new_zeros(2), 1.0).to_event(1))
                seen = pyro.sample("x", dist.Normal(self.weight * z.sum(-1), 1.0), obs=x[:, 0])
                if pyro.poutine.runtime._PYRO_STACK and not torch.equal(seen.flatten()[:1], x[0, :1]):
                    raise RuntimeError("needs the data")

    with pytest.raises(PairError, match="cannot run unconditioned"):
        check_pair(Pair(Needy(), Guide()), X)


def test_a_global_latent_is_refused_unless_allowed():
    pair, x = Pair(GlobalMeanModel(6), GlobalMeanGuide(6)), torch.randn(6)
    with pytest.raises(PairError, match=r"\['theta'\] stand outside the plate 'data'.*estimators.ELBO"):
        check_pair(pair, x)
    assert check_pair(pair, x, allow_global=True).global_sites == ("theta",)


def test_data_outside_the_support_is_named_with_its_fix():
    pair = Pair(
        models.VAE(likelihoods.Bernoulli(), nets.MLPDecoder(2, (1, 8, 8), (8,)), 2),
        guides.MeanField(nets.MLPEncoder((1, 8, 8), 2, (8,))),
    )
    with pytest.raises(PairError, match="divide by 255 or binarise"):
        check_pair(pair, torch.randint(0, 256, (4, 1, 8, 8)).float())


@pytest.mark.parametrize(
    ("pair", "x"),
    [
        (make_pair(), torch.randn(5, 5)),
        (Pair(ChainModel(), ChainGuide()), torch.randn(5, 2)),
        (Pair(BernoulliModel(), BernoulliGuide()), torch.randn(5)),
    ],
    ids=["linear_gaussian", "chain", "bernoulli"],
)
def test_a_good_pair_passes_and_is_left_as_it_was(pair, x):
    pair.train()
    weights = {name: value.clone() for name, value in pair.state_dict().items()}
    random = torch.get_rng_state()
    report = check_pair(pair, x)
    assert "keeps the contract" in str(report)
    assert torch.equal(torch.get_rng_state(), random)
    assert pair.training
    assert all(p.grad is None for p in pair.parameters())
    assert all(torch.equal(weights[name], value) for name, value in pair.state_dict().items())


def test_the_report_says_what_the_pair_is_made_of():
    report = check_pair(Pair(BernoulliModel(), BernoulliGuide()), torch.randn(5))
    assert report.latent_sites == {"z": (2,)}
    assert report.observed_sites == {"x": ()}
    assert report.non_reparameterised == ("z",)
    assert report.num_parameters == 8


def test_one_datum_is_too_few():
    with pytest.raises(PairError, match="two data or more"):
        check_pair(make_pair(), torch.randn(1, 5))


def test_a_program_that_counts_its_runs_is_told_so():
    class Counting(Model):
        def forward(self, x):
            self.calls = getattr(self, "calls", 0) + 1
            with pyro.poutine.scale(scale=self.calls / 100):
                super().forward(x)

    with pytest.raises(PairError, match=r"another one in the next run.*a counter.*fit\(kl=LinearWarmup"):
        check_pair(Pair(Counting(), Guide()), torch.randn(6, 4))


@pytest.mark.parametrize("off", [torch.no_grad, torch.inference_mode])
def test_gradients_that_the_caller_has_switched_off_are_named(off):
    with off(), pytest.raises(PairError, match="Gradients are switched off around this call"):
        check_pair(make_pair(), torch.zeros(4, 5))
