"""Factor analysis: its exact evidence and posterior against scikit-learn,
dense normals and an exact guide.
"""

from __future__ import annotations

import numpy as np
import pytest
import sklearn.decomposition
import torch
from torch.distributions import MultivariateNormal, Normal

import ppl_vae as pv
from ppl_vae import evaluate, guides, models, nets
from ppl_vae.testing import check_pair
from tests.conftest import SIGMAS
from tests.oracle import set_exact

pytestmark = pytest.mark.usefixtures("double")


def make(latent_dim=2, data_dim=5):
    model = models.FactorAnalysis(latent_dim, data_dim)
    model.bias.data.normal_()
    model.log_scale.data.normal_(-0.5, 0.4)
    return model


def exact_pair():
    model = make()
    guide = guides.FullRank(nets.MLPEncoder((5,), 2, hidden=()))
    set_exact(guide, model)
    return pv.Pair(model, guide)


def test_evidence_and_posterior_are_scikit_learns():
    model, x = make(), torch.randn(7, 5)
    theirs = sklearn.decomposition.FactorAnalysis(n_components=2)
    theirs.components_ = model.weight.detach().numpy().T
    theirs.noise_variance_ = (2 * model.log_scale).exp().detach().numpy()
    theirs.mean_ = model.bias.detach().numpy()
    np.testing.assert_allclose(model.log_evidence(x).detach(), theirs.score_samples(x.numpy()), rtol=1e-10)
    np.testing.assert_allclose(model.posterior(x).mean.detach(), theirs.transform(x.numpy()), rtol=1e-10)


def test_the_evidence_is_a_dense_normal_density():
    model, x = make(), torch.randn(3, 6, 5)
    covariance = model.weight @ model.weight.T + (2 * model.log_scale).exp().diag()
    torch.testing.assert_close(model.log_evidence(x), MultivariateNormal(model.bias, covariance).log_prob(x))


def test_the_posterior_is_bayes_rule():
    model, x, z = make(), torch.randn(6, 5), torch.randn(6, 2)
    prior = Normal(0.0, 1.0).log_prob(z).sum(-1)
    likelihood = Normal(z @ model.weight.T + model.bias, model.log_scale.exp()).log_prob(x).sum(-1)
    expected = prior + likelihood - model.log_evidence(x)
    torch.testing.assert_close(model.posterior(x).log_prob(z), expected)


def test_with_equal_noise_it_is_probabilistic_pca():
    pca, x = models.LinearGaussian(2, 5, noise=0.4), torch.randn(4, 5)
    model = models.FactorAnalysis(2, 5, noise=0.4)
    model.weight.data.copy_(pca.weight)
    torch.testing.assert_close(model.log_evidence(x), pca.log_evidence(x))


def test_with_an_exact_guide_one_draw_gives_the_evidence():
    pair, x = exact_pair(), torch.randn(9, 5)
    assert check_pair(pair, x).observed_sites == {"x": (5,)}
    result = evaluate.log_likelihood(pair, x, 3, progress=False)
    torch.testing.assert_close(result.per_datum, pair.model.log_evidence(x).detach())


def test_samples_have_the_covariance():
    pair, n = exact_pair(), 20_000
    pair.remember((torch.zeros(1, 5),))
    model, x = pair.model, pv.sample(pair, n, seed=0).value
    covariance = (model.weight @ model.weight.T + (2 * model.log_scale).exp().diag()).detach()
    spread = covariance.diagonal()
    error = ((spread[:, None] * spread + covariance.square()) / n).sqrt()
    assert ((x.T.cov() - covariance).abs() < SIGMAS * error).all()


def test_the_largest_evidence_is_scikit_learns():
    truth = make(1, 4)
    truth.log_scale.data.copy_(torch.tensor([0.2, 1.0, 0.2, 1.0]).log())
    pair = pv.Pair(truth, guides.MeanField(nets.MLPEncoder((4,), 1, ())))
    pair.remember((torch.zeros(1, 4),))
    x = pv.sample(pair, 1000, seed=1).value
    best = sklearn.decomposition.FactorAnalysis(1, tol=1e-8, max_iter=2000).fit(x.numpy()).score(x.numpy())
    model = models.FactorAnalysis(1, 4)
    optimizer = torch.optim.LBFGS(model.parameters(), max_iter=200, line_search_fn="strong_wolfe")

    def loss():
        optimizer.zero_grad()
        value = -model.log_evidence(x).mean()
        value.backward()
        return value

    optimizer.step(loss)
    assert model.log_evidence(x).mean().item() == pytest.approx(best, abs=1e-4)
    assert model.log_scale.exp()[[1, 3]].min() > 1.5 * model.log_scale.exp()[[0, 2]].max()


def test_noise_must_be_positive():
    with pytest.raises(ValueError, match="noise must be positive"):
        models.FactorAnalysis(2, 4, noise=0.0)
