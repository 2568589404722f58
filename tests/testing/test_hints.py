"""Hints before a bad start: said where the scales do not fit, and of no pair of the zoo."""

from __future__ import annotations

import pytest
import torch
from torch import nn

import ppl_vae as pv
from ppl_vae import data, guides, likelihoods, models, nets
from ppl_vae.testing import check_pair
from tests.zoo import CASES, PARTS

SIZE = 5


def gaussian(scale="learned", shape=(SIZE,), likelihood=None, encoder=None) -> pv.Pair:
    torch.manual_seed(0)
    likelihood = likelihood or likelihoods.Gaussian(scale, event_dim=len(shape))
    decoder = nets.MLPDecoder(2, likelihood.raw_shape(shape), (8,))
    encoder = encoder or nets.MLPEncoder(shape, 2, (8,))
    return pv.Pair(models.VAE(likelihood, decoder, 2), guides.MeanField(encoder))


def normal(loc: float, deviation: float, *shape: int) -> torch.Tensor:
    return loc + deviation * torch.randn(8, *(shape or (SIZE,)), generator=torch.Generator().manual_seed(1))


def hints(pair: pv.Pair, x: torch.Tensor) -> str:
    return "\n".join(check_pair(pair, x).hints)


@pytest.mark.parametrize("case", PARTS)
def test_none_for_the_zoo(case):
    report = check_pair(case.pair(), *case.batch(), allow_global=True)
    assert report.hints == ()


def test_none_for_the_bundled_sets():
    digits = data.load("digits", binarise=None).train.take(8).tensors()[0]
    assert not hints(gaussian(shape=(1, 8, 8)), digits)
    assert not hints(gaussian(0.1, shape=(1, 8, 8)), digits)
    assert not hints(gaussian(1.0, shape=(1, 8, 8)), digits)
    for name in ("linear_gaussian", "pinwheel"):
        x = data.load(name, num_data=100).train.take(8).tensors()[0]
        assert not hints(gaussian(shape=tuple(x.shape[1:])), x)
    assert len(CASES) > 50


@pytest.mark.parametrize("scale", [1.0, "learned", "per_output"])
@pytest.mark.parametrize(("loc", "deviation"), [(700.0, 1.0), (0.0, 700.0), (700.0, 50.0)])
def test_raw_data_of_scale_700(scale, loc, deviation):
    told = check_pair(gaussian(scale), normal(loc, deviation)).hints
    assert len(told) == 2
    assert "site 'x': the data lie" in told[0]
    assert "data.table(frame)" in told[0]
    assert "the guide's first layer" in told[1]
    assert "given values of size" in told[1]
    assert "hint  site 'x'" in str(check_pair(gaussian(scale), normal(loc, deviation)))


def test_one_column_of_another_unit_is_enough():
    x = normal(0.0, 1.0)
    x[:, 3] *= 500
    assert "the data lie" in hints(gaussian(), x)
    assert not hints(gaussian(), normal(3.0, 4.0))


@pytest.mark.parametrize(("scale", "words"), [(1.0, "fixed at"), ("learned", "at the start")])
def test_data_of_a_hundredth(scale, words):
    x = normal(0.0, 0.01)
    told = check_pair(gaussian(scale), x).hints
    assert len(told) == 1
    assert f"{words} " in told[0]
    assert ("scale='learned'" in told[0]) == (scale == 1.0)
    times = float(told[0].split(words)[1].split("times")[0].replace(",", ""))
    assert times == pytest.approx(1 / float((x - x.mean(0)).square().mean().sqrt()), rel=0.01)
    assert "fixed at" in hints(gaussian(1.0, shape=(1, 8, 8)), normal(0.5, 0.01, 1, 8, 8))


def test_the_start_that_was_mended_says_nothing():
    x = normal(700.0, 3.0)
    pair = gaussian(encoder=Scaled(700.0, 3.0))
    assert "the data lie" in hints(pair, x)
    nets.centre_output(pair.model.decoder, pair.model.likelihood, x)
    assert not hints(pair, x)


class Scaled(nets.MLPEncoder):
    """An encoder that standardises by itself: what counts is what its first layer is given."""

    def __init__(self, loc: float, deviation: float) -> None:
        super().__init__((SIZE,), 2, (8,))
        self.loc, self.deviation = loc, deviation

    def forward(self, x):
        return super().forward((x - self.loc) / self.deviation)


def test_tables_with_gaps():
    values = {"a": normal(700.0, 50.0, 1)[:, 0], "b": normal(1.0, 1.0, 1)[:, 0].exp()}
    frame = {name: each.repeat(5).tolist() for name, each in values.items()}
    frame["a"][::7] = [None] * len(frame["a"][::7])
    frame["count"] = [0, 1, 900, 40, 3, 12, 77, 5] * 5
    for standardise in (True, False):
        table = data.table(frame, columns={"count": "count"}, standardise=standardise)
        likelihood = likelihoods.Mixed.of(table.schema)
        encoder = nets.ColumnEncoder.of(table.schema, 2, hidden=(8,))
        told = hints(
            gaussian(shape=table.shape, likelihood=likelihood, encoder=encoder), table.train[:8].tensors()[0]
        )
        assert ("the data lie" in told) == (not standardise)


def test_a_distribution_that_tells_nothing_is_let_be():
    x = normal(0.0, 0.3).sigmoid()
    assert not hints(gaussian(likelihood=Silent()), x)


class Silent(nn.Module):
    """A likelihood without a mean."""

    event_dim = 1

    def forward(self, raw):
        base = torch.distributions.Independent(torch.distributions.Normal(raw, 1.0), 1)
        flow = [torch.distributions.transforms.SigmoidTransform()]
        return pv.likelihoods.gaussian.dist.TransformedDistribution(base, flow)

    def raw_shape(self, shape):
        return shape
