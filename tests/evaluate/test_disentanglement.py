"""Disentanglement against the values that theory, and the published tests, have at the edges."""

from __future__ import annotations

import math

import numpy as np
import pandas as pd
import pyro
import pyro.distributions as dist
import pytest
import torch
from torch import nn

from ppl_vae import Pair, data, evaluate, guides, likelihoods, models, nets
from ppl_vae.evaluate.disentanglement_metrics import (
    as_factors,
    completeness,
    dci,
    disentanglement,
    factor_vae,
    mig,
    mutual_information,
    sap,
)


def drawn(levels=(4, 5, 6), size=3000, seed=0):
    """Independent factors, each uniform on its levels."""
    random = np.random.default_rng(seed)
    return np.stack([random.integers(count, size=size) for count in levels], 1)


def gaps(codes, levels):
    return mig(mutual_information(codes, levels, 20), levels)


def votes(codes, levels):
    return factor_vae(codes, levels, np.random.default_rng(1), 1000)


def test_the_factors_themselves_as_code():
    levels = drawn()
    assert gaps(levels.astype(float), levels) == pytest.approx(np.ones(3), abs=0.02)
    assert votes(levels.astype(float), levels) == 1
    found = dci(
        levels[:2000].astype(float), levels[2000:].astype(float), as_factors(levels, np.zeros(3, bool), 20), 0
    )
    assert found.disentanglement > 0.97
    assert found.completeness > 0.97
    assert found.informativeness > 0.99


def test_a_code_that_says_everything_twice_has_no_gap():
    levels = drawn()
    codes = np.concatenate([levels, levels], 1).astype(float)
    assert gaps(codes, levels) == pytest.approx(np.zeros(3))
    factors = as_factors(levels, np.zeros(3, bool), 20)
    assert sap(codes[:2000], codes[2000:], factors, 0) == pytest.approx(np.zeros(3))
    # FactorVAE's score does not mind
    assert votes(codes, levels) == 1


def test_codes_that_say_nothing():
    levels = drawn()
    for codes in (
        np.zeros((3000, 4)),
        np.full((3000, 4), 0.1) + 1e-17,
        np.random.default_rng(5).normal(size=(3000, 4)),
    ):
        assert gaps(codes, levels) == pytest.approx(np.zeros(3), abs=0.02)
        assert votes(codes, levels) < 0.45
    assert votes(np.zeros((3000, 4)), levels) == 0
    assert votes(0.01 * levels.astype(float), levels) == 0  # pruned


def test_one_constant_dimension_beside_a_good_code():
    levels = drawn()
    codes = np.concatenate([levels, np.ones((3000, 1))], 1).astype(float)
    assert gaps(codes, levels) == pytest.approx(np.ones(3), abs=0.02)
    assert votes(codes, levels) == 1


def test_binned_information_of_a_level_is_its_entropy():
    levels = drawn((7,))
    assert mutual_information(levels.astype(float), levels, 20)[0, 0] == pytest.approx(math.log(7), abs=0.01)
    # 20 bins see no more of 40 levels
    levels = drawn((40,), 20000)
    assert mutual_information(levels.astype(float), levels, 20)[0, 0] == pytest.approx(math.log(20), abs=0.01)


@pytest.mark.parametrize(
    ("importance", "by_code", "by_factor"),
    [
        (np.eye(10), 1.0, 1.0),
        (np.zeros((10, 10)), 0.0, 0.0),
        (np.ones((10, 10)), 0.0, 0.0),
        # a dimension for each two of ten factors, as disentanglement_lib's test has it
        (np.concatenate([np.eye(5), np.eye(5)], 1), 1 - math.log(2) / math.log(10), 1.0),
        (np.concatenate([np.eye(5), np.eye(5)], 0), 1.0, 1 - math.log(2) / math.log(10)),
        (np.eye(10)[:5], 1.0, None),
    ],
)
def test_disentanglement_and_completeness_of_known_importances(importance, by_code, by_factor):
    assert disentanglement(importance) == pytest.approx(by_code, abs=1e-6)
    if by_factor is not None:
        assert completeness(importance) == pytest.approx(by_factor, abs=1e-6)


def test_separated_predictability_of_two_classes():
    """A dimension that is the factor is right always, noise as often as chance."""
    levels = drawn((2, 2), 4000)
    codes = np.concatenate([levels, np.random.default_rng(2).normal(size=(4000, 2))], 1).astype(float)
    found = sap(codes[:3000], codes[3000:], as_factors(levels, np.zeros(2, bool), 20), 0)
    assert found == pytest.approx(np.full(2, 0.5), abs=4.5 * 0.5 / math.sqrt(1000))


def test_continuous_factors():
    """SAP is the squared correlation: of z = v + e half of the variance."""
    random = np.random.default_rng(3)
    values = random.normal(size=(6000, 2))
    codes = values + random.normal(size=(6000, 2))
    factors = as_factors(values, np.ones(2, bool), 20)
    assert np.bincount(factors.levels[:, 0]).tolist() == [300] * 20
    assert sap(codes[:4000], codes[4000:], factors, 0) == pytest.approx(np.full(2, 0.5), abs=0.06)
    assert gaps(values, factors.levels) == pytest.approx(np.full(2, 0.75), abs=0.1)
    assert votes(values, factors.levels) > 0.99


class Slots(nn.Module):
    """A guide whose posterior mean is x, for any model with a site z of its size."""

    def __init__(self, scale=1.0):
        super().__init__()
        self.scale = scale

    def forward(self, x):
        with pyro.plate("data", len(x), dim=-1):
            pyro.sample("z", dist.Normal(self.scale * x, 0.1).to_event(1))


def test_of_a_pair():
    levels = drawn(size=1500)
    x = torch.from_numpy(levels).float()
    pair = Pair(models.LinearGaussian(3, 3), Slots())
    state = torch.get_rng_state()
    result = evaluate.disentanglement(
        pair, x, torch.cat([x, torch.ones(1500, 1)], 1), names=("a", "b", "c", "still"), num_votes=500
    )
    assert torch.equal(torch.get_rng_state(), state)
    assert result.names == ("a", "b", "c")
    assert result.constant == ("still",)
    assert result.continuous == ()
    assert result.mig > 0.97
    assert result.factor_vae == 1
    assert result.dci.disentanglement > 0.97
    assert result.information.shape == (3, 3)
    for text in ("3 dimensions of 'z' against 3 factors", "MIG", "constant", "still"):
        assert text in str(result)
    framed = pd.DataFrame(levels, columns=["shape", "size", "place"])
    assert evaluate.disentanglement(pair, x, framed, num_votes=10).names == ("shape", "size", "place")
    shuffled = evaluate.disentanglement(pair, x, x[torch.randperm(1500)], num_votes=500)
    assert shuffled.mig < 0.02
    assert shuffled.factor_vae < 0.45


def test_of_sprites_and_of_some_rows():
    """Factors stay with their rows, also where only some of them are taken."""
    sprites = data.load("sprites", num_data=900, image_size=8)
    pair = Pair(
        models.VAE(likelihoods.Bernoulli(), nets.MLPDecoder(2, (1, 8, 8), ()), 2),
        guides.MeanField(nets.MLPEncoder((1, 8, 8), 2, (16,))),
    )
    result = evaluate.disentanglement(
        pair, sprites.train, names=sprites.factor_names, num_train=300, num_test=100, num_votes=200
    )
    assert result.names == ("shape", "scale", "orientation", "x", "y")
    assert result.continuous == ()
    assert 0 <= result.mig < 0.5

    x = torch.from_numpy(drawn(size=2000)).float()
    slots = Pair(models.LinearGaussian(3, 3), Slots())
    some = evaluate.disentanglement(slots, x, x, num_train=300, num_test=100, num_votes=200)
    assert some.mig > 0.9


def test_refusals():
    pair, x = Pair(models.LinearGaussian(3, 3), Slots()), torch.from_numpy(drawn(size=200)).float()
    for given, options, match in (
        (None, {}, "the factors that the data come from are not known"),
        (x[:10], {}, r"factors must be \(200, F\)"),
        (x[:, :1], {}, "two factors and of two dimensions"),
        (torch.ones(200, 3), {}, "two factors and of two dimensions"),
        ("shape", {}, "factors must be numbers"),
        (x, {"names": ["a"]}, "3 factors, and names for 1"),
        (x, {"continuous": ["b"]}, r"continuous names \['b'\]"),
        (x, {"site": "y"}, r"latent sites \['z'\] for each datum: not 'y'"),
        (torch.arange(600.0).reshape(200, 3), {"continuous": []}, "has no level, or bin, of 8 data or more"),
    ):
        with pytest.raises(ValueError, match=match):
            evaluate.disentanglement(pair, x, given, num_votes=10, **options)
