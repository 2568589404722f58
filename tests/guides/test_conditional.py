"""The conditional guide: mean field at the start, and another posterior for another label."""

from __future__ import annotations

import pyro.poutine as poutine
import pytest
import torch

from ppl_vae import guides, nets


def make(encoder):
    guide = guides.Conditional(encoder, num_classes=3)
    return guide, torch.randn(5, *encoder.shape), torch.tensor([0, 1, 2, 1, 1])


def posterior(guide, *batch):
    fn = poutine.trace(guide).get_trace(*batch).nodes["z"]["fn"].base_dist
    return fn.loc, fn.scale


ENCODERS = {
    "dense": lambda: nets.MLPEncoder((4,), 2, (6,)),
    "convolutional": lambda: nets.ConvEncoder((1, 8, 8), 2, channels=4, num_features=8),
}


@pytest.mark.parametrize("name", ENCODERS)
def test_it_starts_at_the_mean_field_guide(name):
    guide, x, y = make(ENCODERS[name]())
    for mine, plain in zip(posterior(guide, x, y), guide.encoder(x), strict=True):
        torch.testing.assert_close(mine, plain)


@pytest.mark.parametrize("name", ENCODERS)
def test_the_label_scales_and_shifts_the_features(name):
    guide, x, y = make(ENCODERS[name]())
    torch.nn.init.normal_(guide.gain)
    torch.nn.init.normal_(guide.shift)
    found = posterior(guide, x, y)
    for i, label in enumerate(y):
        features = guide.encoder.trunk(x[i])
        loc, scale = guide.encoder.head(features * (1 + guide.gain[label]) + guide.shift[label])
        torch.testing.assert_close(found[0][i], loc, rtol=1e-4, atol=1e-5)
        torch.testing.assert_close(found[1][i], scale, rtol=1e-4, atol=1e-5)


def test_a_label_that_is_no_class_is_refused():
    guide, x, y = make(ENCODERS["dense"]())
    with pytest.raises(ValueError, match=r"0 ... 2, found -1: .*SemiSupervisedVAE where labels are missing"):
        guide(x, torch.where(y == 2, -1, y))
    with pytest.raises(ValueError, match=r"found 0.5"):
        guide(x, torch.full((5,), 0.5))
