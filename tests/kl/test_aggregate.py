"""The sites whose aggregate posterior no penalty can read."""

from __future__ import annotations

import pyro
import pyro.distributions as dist
import pytest
import torch
from pyro import poutine
from torch import nn

from ppl_vae import Pair, guides, nets
from ppl_vae.core import drawing
from ppl_vae.core.sites import PairError
from ppl_vae.kl import DIP, MMD, FactorVAE, TotalCorrelation
from ppl_vae.kl.aggregate import draws_of, moments_of
from tests.evaluate.programs import TimeGuide, TimeModel
from tests.kl.programs import DiscreteThenNormalGuide, DiscreteThenNormalModel, Guide, Model
from tests.oracle import make_pair
from tests.programs import (
    BernoulliGuide,
    BernoulliModel,
    ChainGuide,
    ChainModel,
    GlobalMeanGuide,
    GlobalMeanModel,
)

VECTOR = [TotalCorrelation(4.0), FactorVAE(4.0), DIP()]
ALL = [*VECTOR, MMD(4.0)]


def name(treatment):
    return type(treatment).__name__


def drawn(model, guide, *batch, num_particles=1):
    return drawing.draw(model, guide, batch, num_particles=num_particles)


@pytest.mark.parametrize("treatment", ALL, ids=name)
def test_sites_that_cannot_be_read_are_refused(treatment):
    x = torch.randn(4)
    cases = [
        (drawn(GlobalMeanModel(4), GlobalMeanGuide(4), x), "theta", r"outside the plate 'data'.*\['z'\]"),
        (drawn(BernoulliModel(), BernoulliGuide(), x), "z", r"those of \['z'\] carry no pathwise gradient"),
        (drawn(DiscreteThenNormalModel(), DiscreteThenNormalGuide(), x), "z", r"\['c'\] carry no pathwise"),
        (drawn(TimeModel(), TimeGuide(), torch.randn(4, 4)), "h", r"in the plates \['time'\]"),
    ]
    for example, site, fragment in cases:
        with pytest.raises(PairError, match=rf"{name(treatment)}: .*{site}.*{fragment}"):
            treatment.penalty(site, example, 4)


def test_a_masked_site_is_refused():
    class Masked(nn.Module):
        def __init__(self, program):
            super().__init__()
            self.program = program

        def forward(self, x):
            with poutine.mask(mask=torch.tensor([True, False])):
                self.program(x)

    example = drawn(Masked(Model()), Masked(Guide()), torch.rand(2, 4) + 0.1)
    with pytest.raises(PairError, match="site 'z' is masked"):
        MMD(4.0).penalty("z", example, 2)


@pytest.mark.parametrize("treatment", VECTOR, ids=name)
def test_a_guide_that_does_not_factorise_and_a_scalar_are_refused(treatment):
    pair = Pair(make_pair().model, guides.FullRank(nets.MLPEncoder((5,), 3, hidden=())))
    example = drawn(pair.model, pair.guide, torch.randn(4, 5))
    with pytest.raises(
        PairError, match=r"guide's MultivariateNormal of site 'z' does not factorise.*MeanField"
    ):
        treatment.penalty("z", example, 4)
    example = drawn(ChainModel(), ChainGuide(), torch.randn(4, 2))
    with pytest.raises(PairError, match=r"site 'bottom' has event shape \[\].*to_event\(1\)"):
        treatment.penalty("bottom", example, 4)


def test_mmd_takes_both():
    pair = Pair(make_pair().model, guides.FullRank(nets.MLPEncoder((5,), 3, hidden=())))
    example = drawn(pair.model, pair.guide, torch.randn(4, 5), num_particles=2)
    assert MMD(4.0).penalty("z", example, 4)(example).isfinite()
    example = drawn(ChainModel(), ChainGuide(), torch.randn(4, 2), num_particles=2)
    assert MMD(4.0).penalty("bottom", example, 4)(example).isfinite()


@pytest.mark.parametrize("num_particles", [1, 3])
def test_room_for_another_sites_plate_is_taken_out(num_particles):
    class BesideTime(nn.Module):
        def forward(self, x):
            with pyro.plate("data", len(x), dim=-1):
                pyro.sample("z", dist.Normal(x[:, :2], 0.5).to_event(1))
                with pyro.plate("time", 4, dim=-2):
                    pyro.sample("h", dist.Normal(x.T, 0.5))

    x = torch.randn(6, 4)
    example = drawn(TimeModel(), BesideTime(), x, num_particles=num_particles)
    assert draws_of(example, "z").shape == (num_particles, 6, 2)
    mean, variance = moments_of(example, "z")
    torch.testing.assert_close(mean, x[:, :2].expand(num_particles, 6, 2))
    torch.testing.assert_close(variance, torch.full_like(mean, 0.25))
    for treatment in ALL:
        assert treatment.penalty("z", example, 6)(example).isfinite()
