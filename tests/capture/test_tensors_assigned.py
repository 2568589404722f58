"""Tensors that programs put into attributes: as a step as written leaves them, or refused by name."""

from __future__ import annotations

import pytest
import torch
from torch import nn

import ppl_vae as pv
from ppl_vae import estimators, guides, likelihoods, models, nets
from ppl_vae.capture.capture_error import CaptureError
from tests.capture.helpers import assert_same_steps

SIZE, LATENT = 6, 3
X = torch.randn(8, SIZE, dtype=torch.float64, generator=torch.Generator().manual_seed(1))


class Decoder(nn.Linear):
    """A decoder that keeps what it gave last, in one way or another."""

    out_shape = (SIZE,)

    def __init__(self, way: str):
        super().__init__(LATENT, SIZE)
        self.way = way
        if way == "moving average":
            self.register_buffer("last", torch.zeros(SIZE))
        if way == "of another type":
            self.last = torch.zeros(SIZE, dtype=torch.int64)
        if way == "an alias":
            self.last = self.weight.data

    def forward(self, z):
        given = super().forward(z)
        mean = given.detach().reshape(-1, SIZE).mean(0)
        if self.way == "moving average":
            self.last = 0.9 * self.last + 0.1 * mean
            return given - self.last
        if self.way == "an alias":  # as torch.nn.utils.spectral_norm begins, and goes on
            self.last = self.weight / 2
            return nn.functional.linear(z, self.last, self.bias)
        if self.way == "made and carried" and getattr(self, "last", None) is not None:
            given = given + 0.1 * self.last
        self.last = given.detach() if self.way == "as large as the batch" else mean
        return given


def descent(pair: pv.Pair) -> torch.optim.Optimizer:
    return torch.optim.SGD(pair.parameters(), lr=1e-2)


def steps(way: str, sizes: list[int]) -> None:
    torch.manual_seed(0)
    model = models.VAE(likelihoods.Gaussian(1.0, event_dim=1), Decoder(way), LATENT)
    pair = pv.Pair(model, guides.MeanField(nets.MLPEncoder((SIZE,), LATENT, (5,)))).double().train()
    batches = [(X[:size],) for size in sizes]
    other = assert_same_steps(pair, estimators.ELBO(), batches, descent, steps=len(sizes))
    torch.testing.assert_close(other.model.decoder.last, pair.model.decoder.last, check_dtype=False)


@pytest.mark.parametrize("way", ["moving average", "a mean", "an alias", "of another type"])
def test_is_as_after_an_eager_step(way):
    steps(way, [8, 8, 5, 8, 5])


@pytest.mark.parametrize(
    ("way", "why"),
    [
        ("as large as the batch", r"shape \(5, 6\) in the place of one of shape \(8, 6\), attribute 'last'"),
        ("made and carried", r"`given = given \+ 0.1 \* self.last`: the first run of the program makes"),
    ],
)
def test_is_refused(way, why):
    with pytest.raises(CaptureError, match=why):
        steps(way, [8, 8, 5])
