"""The guide moves first: which parameters move in which step, resumed or not, captured or not."""

from __future__ import annotations

import itertools

import pytest
import torch

import ppl_vae as pv
from ppl_vae import estimators, guides, models, nets, priors
from ppl_vae.train import GuideFirst

X = torch.randn(20, 5, generator=torch.Generator().manual_seed(0))


def linear():
    torch.manual_seed(0)
    return pv.Pair(models.LinearGaussian(2, 5), guides.MeanField(nets.MLPEncoder((5,), 2, hidden=(3,))))


def trained(pair, steps, **options):
    """One gradient step an epoch."""
    chosen = {"epochs": steps, "batch_size": 20, "progress": False, "device": "cpu", "check": False} | options
    return pv.fit(pair, estimators.ELBO(), X, **chosen)


def moved(before, after):
    return [not torch.equal(a, b) for a, b in zip(before, after, strict=True)]


@pytest.mark.parametrize("capture", [False, True])
def test_the_model_moves_in_every_third_step_until_it_need_not_wait(capture, uncompiled):
    whole = []
    for steps in range(8):
        pair = linear()
        if steps:
            trained(pair, steps, optimizer=GuideFirst(pair, every=3, until=5), capture=capture)
        whole.append([[p.detach().clone() for p in each.parameters()] for each in (pair.model, pair.guide)])
    for step, (before, after) in enumerate(itertools.pairwise(whole), 1):
        assert all(moved(before[1], after[1]))
        assert all(moved(before[0], after[0])) == any(moved(before[0], after[0])) == (step == 3 or step > 5)


def test_every_step_is_adam():
    one, other = linear(), linear()
    trained(one, 4, optimizer=GuideFirst(one, every=1))
    trained(other, 4)
    for mine, adam in zip(one.parameters(), other.parameters(), strict=True):
        torch.testing.assert_close(mine, adam)


def test_it_goes_on_counting_when_resumed(tmp_path):
    whole, parts = linear(), linear()
    trained(whole, 5, optimizer=GuideFirst(whole, every=3))
    trained(parts, 2, optimizer=GuideFirst(parts, every=3), run_dir=tmp_path)
    trained(parts, 5, optimizer=GuideFirst(parts, every=3), run_dir=tmp_path, resume=True)
    for one, other in zip(whole.parameters(), parts.parameters(), strict=True):
        torch.testing.assert_close(one, other)


def test_what_both_share_moves_with_the_guide():
    encoder = nets.MLPEncoder((5,), 2, hidden=(3,))
    decoder = nets.MLPDecoder(2, (5,), ())
    model = models.VAE(pv.likelihoods.Gaussian(event_dim=1), decoder, 2, priors.VampPrior(encoder, 3))
    pair = pv.Pair(model, guides.MeanField(encoder))
    before = [p.detach().clone() for p in encoder.parameters()]
    output = decoder.output_bias.detach().clone()
    trained(pair, 2, optimizer=GuideFirst(pair, every=10))
    assert all(moved(before, encoder.parameters()))
    assert torch.equal(output, decoder.output_bias)


def test_what_it_does_not_do_is_said():
    pair = linear()
    with pytest.raises(ValueError, match="every must be"):
        GuideFirst(pair, every=0)
    with pytest.raises(ValueError, match="until must be"):
        GuideFirst(pair, until=0)
    assert repr(GuideFirst(pair, 3)) == "GuideFirst(every=3, until=None)"
