"""The full-rank guide: it starts at mean field, can be any normal, and has a valid covariance."""

from __future__ import annotations

import pytest
import torch

import ppl_vae as pv
from ppl_vae import estimators, guides, nets
from tests.oracle import make_pair


def test_it_starts_at_the_mean_field_guide():
    encoder = nets.MLPEncoder((5,), 3, (8,))
    posterior = guides.FullRank(encoder).posterior(x := torch.randn(4, 5))
    loc, scale = encoder(x)
    torch.testing.assert_close(posterior.mean, loc)
    torch.testing.assert_close(posterior.scale_tril, scale.diag_embed())


@pytest.mark.usefixtures("double")
def test_it_can_be_the_exact_posterior():
    pair, x = make_pair(), torch.randn(7, 5)
    exact, ours = pair.model.posterior(x), pair.guide.posterior(x)
    torch.testing.assert_close(ours.mean, exact.mean)
    torch.testing.assert_close(ours.covariance_matrix, exact.covariance_matrix)


def test_one_latent_dimension_has_nothing_below_the_diagonal():
    guide = guides.FullRank(nets.MLPEncoder((5,), 1, (8,)))
    assert guide.posterior(torch.randn(4, 5)).scale_tril.shape == (4, 1, 1)
    pair, x = make_pair(latent_dim=1, perturb=0.2), torch.randn(20, 5)
    run = pv.fit(pair, estimators.ELBO(), x, epochs=2, progress=False, device="cpu")
    assert run.history["train_bound"].notna().all()
