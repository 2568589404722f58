"""Hints in a training's log: those of its start, and a latent whose KL term is at zero after the warm-up."""

from __future__ import annotations

import pytest
import torch

import ppl_vae as pv
from ppl_vae import data, estimators, guides, kl, models, nets
from ppl_vae.testing import PairReport
from ppl_vae.train.hints import Hints

REPORT = PairReport({"z": (2,), "w": (3,)}, {"x": (5,)}, ("w",), (), 10)


def rows(epochs, **terms):
    return [
        {"epoch": epoch, **{f"train_kl_{site}": term for site, term in terms.items()}} for epoch in epochs
    ]


def told(hints, given):
    return [hint for row in given for hint in hints.after(row)]


def test_a_latent_at_zero_is_said_once():
    hints = Hints(REPORT, None)
    assert not told(hints, rows(range(1, 5), z=1e-4, w=1e-4))
    (hint,) = told(hints, rows(range(5, 30), z=1e-4, w=1e-4))
    assert "site 'z': after 5 epochs its KL term is 0.0001 nats" in hint
    assert "kl.FreeBits" in hint
    assert "kl.LinearWarmup" in hint
    assert hints.given == [hint]


def test_only_after_the_warm_up():
    plan = kl.KLPlan(kl.LinearWarmup(epochs=12), ("z", "w"), 30)
    hints = Hints(REPORT, plan)
    assert not told(hints, rows(range(1, 13), z=1e-3))
    (hint,) = told(hints, rows(range(13, 30), z=1e-3))
    assert "after 13 epochs" in hint
    assert "a longer warm-up" in hint


@pytest.mark.parametrize("term", [0.02, 3.0, -0.5, 0.0, float("nan")])
def test_other_terms_are_none(term):
    assert not told(Hints(REPORT, None), rows(range(1, 30), z=term))
    assert not told(Hints(None, None), rows(range(1, 30), z=1e-4))


class Blind(torch.nn.Module):
    """A decoder that no longer listens to z."""

    def __init__(self, latent_dim: int = 2, size: int = 5) -> None:
        super().__init__()
        self.latent_dim, self.size = latent_dim, size
        self.bias = torch.nn.Parameter(torch.zeros(size))

    def forward(self, z):
        return 0 * z.sum(-1, keepdim=True) + self.bias


def pair_of(decoder) -> pv.Pair:
    torch.manual_seed(0)
    likelihood = pv.likelihoods.Gaussian(1.0, event_dim=1)
    encoder = nets.MLPEncoder((5,), 2, (8,))
    return pv.Pair(models.VAE(likelihood, decoder, 2), guides.MeanField(encoder))


def test_the_log_of_a_training_that_collapses(capsys):
    x = torch.randn(200, 5, generator=torch.Generator().manual_seed(0))
    run = pv.fit(
        pair_of(Blind()), estimators.MeanFieldELBO(), x, epochs=30, batch_size=20, learning_rate=0.02,
        capture=False, progress=True,
    )  # fmt: skip
    (hint,) = run.hints
    assert "posterior collapse" in hint
    assert capsys.readouterr().err.count(f"hint: {hint}") == 1


def test_the_log_of_a_bad_start(capsys):
    x = 700 + torch.randn(60, 5, generator=torch.Generator().manual_seed(0))
    pair = pair_of(nets.MLPDecoder(2, (5,), (8,)))
    for progress in (True, False):
        run = pv.fit(pair, estimators.ELBO(), x, epochs=1, capture=False, progress=progress)
        assert [hint.split(",")[0].split(":")[0] for hint in run.hints] == [
            "site 'x'",
            "the guide's first layer",
        ]
        log = capsys.readouterr().err
        assert [log.count(f"hint: {hint}") for hint in run.hints] == [int(progress)] * 2


def test_a_training_that_goes_well_says_nothing(capsys):
    x = data.load("linear_gaussian", num_data=300)
    size = x.shape[0]
    model = models.LinearGaussian(2, size)
    pair = pv.Pair(model, guides.MeanField(nets.MLPEncoder((size,), 2, (16,))))
    run = pv.fit(pair, estimators.ELBO(), x, epochs=8, learning_rate=1e-2, capture=False, progress=True)
    assert run.hints == ()
    assert "hint" not in capsys.readouterr().err
