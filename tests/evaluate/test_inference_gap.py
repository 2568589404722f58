"""The inference gap and its two parts, on the linear-Gaussian pair, where all of them are known."""

from __future__ import annotations

import pyro
import pytest
import torch
from torch import nn
from torch.distributions import kl_divergence

from ppl_vae import Pair, PairError, evaluate, guides, models, nets
from tests.conftest import SIGMAS
from tests.oracle import make_pair
from tests.programs import BernoulliGuide, BernoulliModel

pytestmark = pytest.mark.usefixtures("double")


def gap_of(pair, x, num_particles=200, **options):
    return evaluate.inference_gap(pair, x, num_particles, progress=False, **options)


def monte_carlo_error(result, kl):
    """Of a mean of K draws for each of N data, whose log-weights have a variance of about twice the KL."""
    return (2 * kl.mean().item() / result.num_particles / len(kl)) ** 0.5


def test_the_parts_add_up_to_the_divergence_of_the_guide_from_the_posterior():
    pair, x = make_pair(perturb=0.15), torch.randn(10, 5)
    result = gap_of(pair, x)
    with torch.no_grad():
        kl = kl_divergence(pair.guide.posterior(x), pair.model.posterior(x))
        evidence = pair.model.log_evidence(x)
    assert result.evidence_is_exact
    torch.testing.assert_close(result.evidence_per_datum, evidence)
    assert result.approximation + result.amortisation == pytest.approx(result.evidence - result.elbo)
    error = SIGMAS * 2 * monte_carlo_error(result, kl)
    assert abs(result.approximation + result.amortisation - kl.mean().item()) < error
    # the family holds the posterior: all of the gap is the encoder's
    assert abs(result.approximation) < 1e-3
    assert abs(result.amortisation - kl.mean().item()) < error + 1e-3
    assert result.amortisation > 0


def test_mean_field_at_its_best_has_the_approximation_gap_of_theory():
    """The best diagonal normal has the precision's diagonal; its divergence is half of log det ratio."""
    model = make_pair().model
    guide = guides.MeanField(nets.MLPEncoder((5,), 3, hidden=()))
    x = torch.randn(10, 5)
    result = gap_of(Pair(model, guide), x, 500)
    precision = model.posterior(x[:1]).precision_matrix[0]
    theory = 0.5 * (precision.diagonal().log().sum() - torch.logdet(precision)).item()
    kl = torch.full((10,), theory)
    assert theory > 0.05
    assert abs(result.approximation - theory) < SIGMAS * 2 * monte_carlo_error(result, kl) + 0.01 * theory
    assert (result.best_elbo_per_datum > result.elbo_per_datum).all()


def test_the_exact_posterior_has_no_gap():
    result = gap_of(make_pair(), torch.randn(6, 5), 20, num_steps=20)
    assert result.approximation == pytest.approx(0, abs=1e-6)
    assert result.amortisation == pytest.approx(0, abs=1e-6)


@pytest.mark.parametrize("make", [guides.LowRank, guides.IAF, guides.Planar])
def test_other_families_close_the_encoders_part(make):
    pair = Pair(models.LinearGaussian(2, 4), make(nets.MLPEncoder((4,), 2, (6,))))
    result = gap_of(pair, torch.randn(6, 4), 200, num_steps=60)
    assert result.amortisation > 0.1
    assert -SIGMAS * result.approximation_standard_error - 0.01 < result.approximation < result.amortisation


class Halved(torch.distributions.Normal):
    """A normal of a family with an argument besides its parameters, which a copy must have too."""

    def __init__(self, loc, scale, factor, validate_args=None):
        self.factor = factor
        super().__init__(loc, scale, validate_args=validate_args)

    def expand(self, batch_shape, _instance=None):
        loc, scale = (each.expand(batch_shape) for each in (self.loc, self.scale))
        return type(self)(loc, scale, self.factor, validate_args=False)

    def rsample(self, sample_shape=()):
        return self.loc + self.factor * (super().rsample(sample_shape) - self.loc)

    def log_prob(self, value):
        return super().log_prob(self.loc + (value - self.loc) / self.factor) - torch.log(
            torch.tensor(self.factor)
        )


class Unkept(Halved):
    """It does not keep the argument under its name."""

    def __init__(self, loc, scale, by, validate_args=None):
        super().__init__(loc, scale, by, validate_args)


class HalvedGuide(nn.Module):
    def __init__(self, family):
        super().__init__()
        self.family, self.encoder = family, nets.MLPEncoder((4,), 2, (6,))

    def forward(self, x):
        loc, scale = self.encoder(x)
        with pyro.plate("data", len(x), dim=-1):
            pyro.sample("z", to_pyro(self.family(loc, 2 * scale, 0.5)))


def to_pyro(fn):
    return pyro.distributions.Independent(fn, 1)


def test_a_family_with_an_argument_of_its_own_is_rebuilt_with_it():
    torch.manual_seed(0)
    own = Pair(models.LinearGaussian(2, 4), HalvedGuide(Halved))
    plain = Pair(own.model, guides.MeanField(own.guide.encoder))
    x = torch.randn(6, 4)
    one, two = (gap_of(pair, x, 50, num_steps=40) for pair in (own, plain))
    torch.testing.assert_close(one.best_elbo_per_datum, two.best_elbo_per_datum, atol=0.05, rtol=0)
    with pytest.raises(PairError, match="Unkept cannot be made anew of its parameters"):
        gap_of(Pair(own.model, HalvedGuide(Unkept)), x, 50, num_steps=4)


class Unknowing(nn.Module):
    """A model that does not know its evidence."""

    def __init__(self, model):
        super().__init__()
        self.model, self.latent_dim = model, model.latent_dim

    def forward(self, x):
        return self.model(x)


def test_a_search_that_ends_below_the_guides_answer_is_not_taken():
    pair, x = make_pair(), torch.randn(6, 5)  # the exact posterior, of which any step leads away
    result = gap_of(pair, x, num_steps=3, step_size=50.0)
    torch.testing.assert_close(result.best_elbo_per_datum, result.elbo_per_datum)
    assert result.amortisation == pytest.approx(0, abs=1e-9)


def test_an_unknown_evidence_is_estimated_with_the_best_posterior():
    pair, x = make_pair(perturb=0.15), torch.randn(6, 5)
    result = gap_of(Pair(Unknowing(pair.model), pair.guide), x)
    assert not result.evidence_is_exact
    assert "estimated" in str(result)
    torch.testing.assert_close(
        result.evidence_per_datum, pair.model.log_evidence(x).detach(), atol=1e-3, rtol=0
    )


def test_it_is_the_same_in_batches_and_leaves_the_pair_alone():
    pair, x = make_pair(perturb=0.15), torch.randn(6, 5)
    before = {name: tensor.clone() for name, tensor in pair.state_dict().items()}
    state = torch.get_rng_state()
    first = gap_of(pair, x, 50, num_steps=100)
    second = gap_of(pair, x, 50, num_steps=100, batch_size=4, chunk=30)
    assert torch.equal(torch.get_rng_state(), state)
    assert all(torch.equal(tensor, before[name]) for name, tensor in pair.state_dict().items())
    assert all(parameter.grad is None for parameter in pair.parameters())
    torch.testing.assert_close(first.best_elbo_per_datum, second.best_elbo_per_datum, atol=2e-2, rtol=0)


def test_the_table():
    text = str(gap_of(make_pair(perturb=0.15), torch.randn(6, 5), 20, num_steps=2))
    for line in ("6 data, nats per datum", "inference gap", "approximation gap", "amortisation gap", "exact"):
        assert line in text


def test_refusals():
    pair = Pair(BernoulliModel(), BernoulliGuide())
    with pytest.raises(PairError, match=r"site 'z'.*pathwise gradient"):
        gap_of(pair, torch.randn(4))
    with pytest.raises(ValueError, match="step_particles must be a positive whole number, got 0"):
        gap_of(make_pair(), torch.randn(4, 5), num_steps=0, step_particles=0)
