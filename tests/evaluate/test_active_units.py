from __future__ import annotations

import pyro
import pyro.distributions as dist
import pytest
import torch
from torch import nn

from ppl_vae import Pair, evaluate
from ppl_vae.core.sites import PairError
from ppl_vae.evaluate.statistics import RunningMoments
from tests.evaluate.programs import ChainGuide, ChainModel, GlobalGuide, GlobalModel, TimeGuide, TimeModel
from tests.oracle import make_pair


class Program(nn.Module):
    """One latent site of three units whose distribution `make(x)` gives."""

    def __init__(self, make) -> None:
        super().__init__()
        self.make = make

    def forward(self, x):
        with pyro.plate("data", len(x), dim=-1):
            pyro.sample("z", self.make(x))


def prior(x):
    return dist.Normal(torch.zeros(3), 1.0).to_event(1)


def test_variance_of_the_guides_mean(double):
    slope = torch.tensor([1.0, 0.0, 0.05])
    guide = Program(lambda x: dist.Normal(x * slope, 1.0).to_event(1))
    x = torch.randn(300, 1)
    result = evaluate.active_units(Pair(Program(prior), guide), x, batch_size=64)
    torch.testing.assert_close(result.variance["z"], x.var() * slope**2)
    assert result.count == {"z": 1}
    assert result.total == {"z": 3}
    assert evaluate.active_units(Pair(Program(prior), guide), x, 0.001).count == {"z": 2}
    assert str(result).splitlines()[1].split() == ["active", "units", "z", "1", "of", "3"]


class NoMean(dist.Normal):
    @property
    def mean(self):
        raise NotImplementedError


class NanMean(dist.Normal):
    @property
    def mean(self):
        return torch.full(self.batch_shape, float("nan"))


@pytest.mark.parametrize("distribution", [NoMean, NanMean])
def test_without_a_mean_the_noise_of_the_draws_is_taken_off(double, distribution):
    # with 50 draws the mean of an idle unit varies by 1/50 > 0.01: uncorrected it would count as active
    guide = Program(lambda x: distribution(x * torch.tensor([1.0, 0.0, 0.0]), torch.ones(3)).to_event(1))
    x = torch.randn(2000, 1)
    result = evaluate.active_units(Pair(Program(prior), guide), x, num_particles=50)
    assert result.count == {"z": 1}
    assert float(result.variance["z"][0]) == pytest.approx(float(x.var()), rel=0.1)
    assert result.variance["z"][1:].abs().max() < 0.004


def test_a_mean_that_depends_on_draws_is_averaged_over_them(double):
    x = torch.randn(3000)
    result = evaluate.active_units(Pair(ChainModel(), ChainGuide()), (x,), num_particles=30)
    assert float(result.variance["z"]) == pytest.approx(0.64 * float(x.var()))
    assert float(result.variance["h"]) == pytest.approx(0.49 * 0.64 * float(x.var()), rel=0.05)


def test_every_element_of_an_inner_plate_is_a_unit(double):
    x = torch.randn(50, 4) * torch.tensor([1.0, 0.0, 1.0, 0.0])
    result = evaluate.active_units(Pair(TimeModel(), TimeGuide()), x)
    assert result.variance["z"].shape == (2,)
    assert result.variance["h"].shape == (4,)
    assert result.count == {"z": 1, "h": 2}


def test_global_sites_are_left_out(double):
    result = evaluate.active_units(Pair(GlobalModel(), GlobalGuide()), (torch.randn(20),))
    assert set(result.count) == {"z"}


class Nothing(nn.Module):
    def forward(self, x):
        pyro.sample("mean", dist.Normal(0.0, 1.0))


def test_errors():
    pair, x = make_pair(), torch.randn(5, 5)
    with pytest.raises(ValueError, match="two rows"):
        evaluate.active_units(pair, x[:1])
    with pytest.raises(ValueError, match="two particles"):
        evaluate.active_units(pair, x, num_particles=1)
    with pytest.raises(ValueError, match="threshold must be zero or more, got -1"):
        evaluate.active_units(pair, x, -1)
    with pytest.raises(PairError, match="no latent site inside the plate 'data'"):
        evaluate.active_units(Pair(Nothing(), Nothing()), x)
    pair.guide.encoder.head.linear.bias.data.fill_(float("nan"))
    pyro.enable_validation(False)
    with pytest.raises(PairError, match="site 'z': the guide's posterior mean is not finite"):
        evaluate.active_units(pair, x)


def test_running_moments_are_those_of_the_whole(double):
    values = torch.randn(100, 4) + 1e4
    moments = RunningMoments()
    for part in values.split([1, 30, 69]):
        moments.update(part)
    torch.testing.assert_close(moments.mean, values.mean(0))
    torch.testing.assert_close(moments.variance(), values.var(0))
