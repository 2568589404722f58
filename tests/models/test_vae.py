"""The VAE: any likelihood, any decoder, and clear words where they do not fit."""

from __future__ import annotations

import pytest
import torch

import ppl_vae as pv
from ppl_vae import guides, likelihoods, models, nets
from ppl_vae.testing import check_pair

IMAGE = (1, 8, 8)
DATA = {
    "Bernoulli": torch.randint(0, 2, (4, *IMAGE)).float(),
    "ContinuousBernoulli": torch.rand(4, *IMAGE),
    "Gaussian": torch.randn(4, *IMAGE),
    "Laplace": torch.randn(4, *IMAGE),
    "Poisson": torch.poisson(torch.full((4, *IMAGE), 3.0)),
    "NegativeBinomial": torch.poisson(torch.full((4, *IMAGE), 3.0)),
    "Categorical": torch.randint(0, 5, (4, *IMAGE)).float(),
    "DiscretisedLogisticMixture": torch.randint(0, 256, (4, *IMAGE)).float() / 255,
}


def make(likelihood, latent_dim=3):
    decoder = nets.MLPDecoder(latent_dim, likelihood.raw_shape(IMAGE), (16,))
    return pv.Pair(
        models.VAE(likelihood, decoder, latent_dim),
        guides.MeanField(nets.MLPEncoder(IMAGE, latent_dim, (16,))),
    )


@pytest.mark.parametrize("name", DATA)
def test_every_likelihood_keeps_the_contract(name):
    options = {"num_classes": 5} if name == "Categorical" else {}
    pair, x = make(getattr(likelihoods, name)(**options)), DATA[name]
    report = check_pair(pair, x)
    assert report.latent_sites == {"z": (3,)}
    assert report.observed_sites == {"x": IMAGE}
    pair.remember((x,))
    assert pv.sample(pair, 5, seed=0).value.shape == (5, *IMAGE)


@pytest.mark.parametrize(
    ("decoder", "encoder"),
    [
        (
            nets.ConvDecoder(3, IMAGE, channels=4, num_features=16),
            nets.ConvEncoder(IMAGE, 3, channels=4, num_features=16),
        ),
        (
            nets.ResidualDecoder(3, IMAGE, channels=4, num_features=16),
            nets.ResidualEncoder(IMAGE, 3, channels=4, num_features=16),
        ),
    ],
    ids=["conv", "residual"],
)
@pytest.mark.parametrize("guide", [guides.MeanField, guides.FullRank])
def test_image_nets_and_both_guides_keep_the_contract(decoder, encoder, guide):
    pair = pv.Pair(models.VAE(likelihoods.Bernoulli(), decoder, 3), guide(encoder))
    assert check_pair(pair, DATA["Bernoulli"]).num_parameters > 100


def test_a_decoder_of_another_latent_size_is_refused():
    with pytest.raises(ValueError, match="latent_dim is 4 but the decoder was built for 3"):
        models.VAE(likelihoods.Bernoulli(), nets.MLPDecoder(3, IMAGE, (16,)), 4)


def test_a_likelihood_with_other_event_dims_is_refused():
    model = models.VAE(likelihoods.Bernoulli(event_dim=1), nets.MLPDecoder(3, IMAGE, (16,)), 3)
    with pytest.raises(ValueError, match=r"event_dim=1.*event_dim=3"):
        model(DATA["Bernoulli"])
