"""The commitment: its value and its gradients by hand, and which guides have none."""

from __future__ import annotations

import pytest
import torch

import ppl_vae as pv
from ppl_vae import estimators, kl
from ppl_vae.core.sites import PairError
from tests.capture.helpers import images, vae
from tests.guides.test_vector_quantised import make


@pytest.mark.parametrize("moving", [False, True])
def test_its_value_and_its_gradients(moving):
    pair, x = make(moving=moving).eval(), images(5)
    particles = estimators.ELBO(3).draw(pair.model, pair.guide, x)
    penalty = kl.Commitment(0.5, codebook_weight=2.0).penalty("z", particles, 5)
    points, book = pair.guide.encoder(x)[0].view(5, 2, 2), pair.guide.codebook
    vectors = book.vectors[torch.cdist(points, book.vectors).argmin(-1)]
    squared = (points - vectors).square().sum((1, 2)).mean()
    value = penalty(particles)
    torch.testing.assert_close(value, squared * (0.5 if moving else 2.5))
    bias = pair.guide.encoder.head.linear.bias
    (found,) = torch.autograd.grad(value, bias, retain_graph=True)
    (wanted,) = torch.autograd.grad(squared, bias, retain_graph=True)
    torch.testing.assert_close(found, 0.5 * wanted)
    if not moving:
        (found,) = torch.autograd.grad(value, book.vectors)
        (wanted,) = torch.autograd.grad(squared, book.vectors)
        torch.testing.assert_close(found, 2.0 * wanted)


def test_other_guides_and_numbers_are_refused():
    with pytest.raises(PairError, match=r"Commitment: the guide of site 'z' is Normal"):
        pv.fit(vae(), estimators.ELBO(), images(20), epochs=1, kl=kl.Commitment(), progress=False)
    with pytest.raises(ValueError, match="codebook_weight must be a finite number >= 0"):
        kl.Commitment(codebook_weight=-1.0)
