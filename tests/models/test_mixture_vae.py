"""The VAE of clusters: the density of a VAE with that prior, and the exact posterior of the cluster."""

from __future__ import annotations

import math

import pyro.distributions as dist
import pytest
import torch
from torch import nn

import ppl_vae as pv
from ppl_vae import estimators, evaluate, guides, likelihoods, models, nets, priors, queries
from ppl_vae.nets.scale import inverse_positive_scale
from ppl_vae.testing import check_pair
from tests.conftest import SIGMAS

pytestmark = pytest.mark.usefixtures("double")

LATENT, DATA, CLUSTERS = 2, 3, 4


def linear_pair():
    """Clusters of a linear-Gaussian model, whose evidence and p(y | x) are known, under a broad guide."""
    prior = priors.MixtureOfGaussians(LATENT, CLUSTERS)
    with torch.no_grad():
        prior.loc.mul_(2)
        prior.logits.copy_(torch.tensor([0.0, 0.5, -0.5, 1.0]))
    decoder = nets.MLPDecoder(LATENT, (DATA,), hidden=())
    model = models.MixtureVAE(likelihoods.Gaussian(0.7, event_dim=1), decoder, prior)
    encoder = nets.MLPEncoder((DATA,), LATENT, hidden=())
    with torch.no_grad():
        encoder.head.linear.weight.zero_()
        encoder.head.linear.bias[LATENT:] = inverse_positive_scale(torch.tensor(3.0))
    return pv.Pair(model, guides.MeanField(encoder))


def exact_joint(pair, x):
    """(B, C): log p(x, y)."""
    mixture, net = pair.model.prior(), pair.model.decoder
    weight = torch.autograd.functional.jacobian(net, torch.zeros(LATENT))
    offset = net(torch.zeros(LATENT))
    columns = []
    for loc, scale in zip(mixture.loc, mixture.scale):
        covariance = weight @ scale.square().diag() @ weight.T + 0.49 * torch.eye(DATA)
        columns.append(dist.MultivariateNormal(offset + weight @ loc, covariance).log_prob(x))
    return torch.stack(columns, -1) + mixture.log_weight


def test_the_evidence_and_the_clusters_are_the_exact_ones():
    pair, x = linear_pair().eval(), 2 * torch.randn(6, DATA)
    joint = exact_joint(pair, x).detach()
    found = evaluate.log_likelihood(pair, x, 20_000, progress=False, capture=False)
    error = found.per_datum_monte_carlo_standard_error
    assert ((found.per_datum - joint.logsumexp(-1)).abs() < SIGMAS * error + 1e-9).all()
    assert error.max() < 0.1
    exact = joint.softmax(-1)
    got = queries.class_probabilities(pair, x, num_particles=20_000, seed=1)
    limit = SIGMAS * (0.25 / found.ess.unsqueeze(-1)).sqrt()
    assert ((got - exact).abs() < limit).all()
    assert limit.max() < 0.1


@pytest.mark.parametrize("prior", ["MixtureOfGaussians", "VampPrior"])
def test_it_is_the_vae_with_that_prior(prior):
    """Draw for draw: the sum over the component is the mixture's density."""
    shape = (1, 4, 4)
    encoder, decoder = nets.MLPEncoder(shape, LATENT, (6,)), nets.MLPDecoder(LATENT, shape, (6,))
    given = priors.VampPrior(encoder, 5) if prior == "VampPrior" else priors.MixtureOfGaussians(LATENT, 5)
    likelihood, guide = likelihoods.Bernoulli(), guides.MeanField(encoder)
    x = (torch.rand(7, *shape) > 0.5).double()
    weights = []
    for model in (
        models.MixtureVAE(likelihood, decoder, given),
        models.VAE(likelihood, decoder, LATENT, prior=given),
    ):
        torch.manual_seed(2)
        weights.append(estimators.IWAE(3).draw(model, guide, x).log_weight)
    torch.testing.assert_close(*weights)


def test_drawn_data_say_which_cluster_they_are_of():
    pair = linear_pair()
    pair.remember((torch.zeros(2, DATA),))
    drawn = pv.sample(pair, 4000, seed=0)
    share = torch.bincount(drawn.latents["y"], minlength=CLUSTERS) / 4000
    weight = pair.model.prior().log_weight.exp().detach()
    assert ((share - weight).abs() < SIGMAS * (weight * (1 - weight) / 4000).sqrt()).all()
    mixture = pair.model.prior()
    standard = (drawn.latents["z"] - mixture.loc[drawn.latents["y"]]) / mixture.scale[drawn.latents["y"]]
    assert (standard.mean(0).abs() < SIGMAS / math.sqrt(4000)).all()
    assert (standard.square().mean(0) - 1).abs().max() < SIGMAS * math.sqrt(2 / 4000)


def test_a_start_at_codes_finds_their_clusters():
    prior, centres = priors.MixtureOfGaussians(2, 3), torch.tensor([[4.0, 0.0], [-4.0, 0.0], [0.0, 6.0]])
    of = torch.arange(600) % 4 % 3  # the first has twice as many
    prior.initialise(centres[of] + 0.5 * torch.randn(600, 2))
    order = torch.cdist(centres, prior.loc).argmin(-1)
    torch.testing.assert_close(prior.loc[order].detach(), centres, atol=0.2, rtol=0)
    mixture = prior()
    torch.testing.assert_close(mixture.scale.detach(), torch.full((3, 2), 0.5), atol=0.1, rtol=0)
    shares = mixture.log_weight.exp()[order].detach()
    torch.testing.assert_close(shares, torch.tensor([0.5, 0.25, 0.25]), atol=1e-3, rtol=0)
    with pytest.raises(ValueError, match=r"take as many codes or more, \(N, 2\), got \(600, 5\)"):
        prior.initialise(torch.randn(600, 5))


def test_a_prior_without_components_is_refused():
    decoder = nets.MLPDecoder(LATENT, (DATA,), hidden=())
    model = models.MixtureVAE(likelihoods.Gaussian(event_dim=1), decoder, priors.StandardNormal(LATENT))
    with pytest.raises(ValueError, match=r"StandardNormal gives a Independent, which has no components"):
        model(torch.zeros(2, DATA))
    with pytest.raises(ValueError, match=r"latent_dim is 5 but the decoder was built for 2"):
        models.MixtureVAE(nn.Identity(), decoder, priors.MixtureOfGaussians(5))


def test_of_one_cluster_it_is_the_vae_with_a_normal_prior():
    prior = priors.MixtureOfGaussians(2, num_components=1)
    likelihood, decoder = likelihoods.Gaussian(event_dim=1), nets.MLPDecoder(2, (5,), (4,))
    guide, x = guides.MeanField(nets.MLPEncoder((5,), 2, (4,))), torch.randn(4, 5)
    pairs = [
        pv.Pair(models.MixtureVAE(likelihood, decoder, prior), guide),
        pv.Pair(models.VAE(likelihood, decoder, 2, prior), guide),
    ]
    assert check_pair(pairs[0], x).summed_sites == {"y": 1}
    # particles stand beside one another, and the dim of the one value to the left of them
    weights = []
    for pair in pairs:
        torch.manual_seed(3)
        weights.append(estimators.IWAE(3).draw(pair.model, pair.guide, x).log_weight)
    torch.testing.assert_close(*weights)
    with pytest.raises(ValueError, match="hangs on finite sites which the model sums over"):
        pv.refit_prior(
            pv.Pair(models.MixtureVAE(likelihood, decoder, priors.MixtureOfGaussians(2, 3)), guide),
            torch.randn(30, 5),
            prior,
        )
