from __future__ import annotations

import importlib
import math
import subprocess
import sys

import pyro
import pyro.distributions as dist
import pytest
import torch
from pyro import poutine
from torch import nn

from ppl_vae import Pair, data, evaluate, guides, models, nets
from ppl_vae.core import subsampling
from ppl_vae.core.meeting import meet
from ppl_vae.core.sites import PairError
from ppl_vae.evaluate import arviz_support
from ppl_vae.evaluate.batches import plan, to_data
from ppl_vae.evaluate.importance_sampling import from_log_weight, log_weights
from tests.conftest import SIGMAS
from tests.evaluate.programs import GlobalGuide, GlobalModel, TimeGuide, TimeModel, stretched_pair
from tests.oracle import make_pair


def log_likelihood(*args, **kwargs):
    return evaluate.log_likelihood(*args, progress=False, **kwargs)


def test_exact_guide_gives_the_evidence_with_no_error(double):
    pair, x = stretched_pair(1.0), torch.randn(50, 5)
    result = log_likelihood(pair, x, 60, batch_size=20, chunk=25)
    exact = pair.model.log_evidence(x).detach()
    torch.testing.assert_close(result.per_datum, exact, rtol=0, atol=1e-9)
    assert result.value == pytest.approx(float(exact.mean()), abs=1e-9)
    assert result.standard_error == pytest.approx(float(exact.std()) / math.sqrt(50))
    torch.testing.assert_close(result.ess, torch.full((50,), 60.0))
    assert result.per_datum_monte_carlo_standard_error.max() < 1e-12
    assert result.monte_carlo_standard_error < 1e-12
    assert result.k_hat.isnan().all()  # equal weights have no tail
    assert result.share_unreliable == 0
    assert result.per_datum.dtype == torch.float64
    assert result.decoder_passes_per_second > 0


def test_perturbed_guide_agrees_within_its_monte_carlo_error(double):
    pair, x = stretched_pair(1.3), torch.randn(40, 5)
    result = log_likelihood(pair, x, 2000)
    deviation = result.per_datum - pair.model.log_evidence(x).detach()
    sigmas = deviation / result.per_datum_monte_carlo_standard_error
    assert sigmas.abs().max() < SIGMAS
    assert abs(float(deviation.mean())) < SIGMAS * result.monte_carlo_standard_error
    # the errors are neither too small nor too large: 40 squared sigmas have mean 1 and deviation 0.22
    assert 1 - SIGMAS * 0.22 < float(sigmas.square().mean()) < 1 + SIGMAS * 0.22
    assert (result.ess > 1).all()
    assert (result.ess < 2000).all()
    assert (result.k_hat < 0.5).all()  # a guide wider than the posterior has bounded weights


def test_a_guide_far_too_narrow_has_a_bad_k_hat(double):
    result = log_likelihood(stretched_pair(0.1), torch.randn(20, 5), 2000)
    assert (result.k_hat > 0.7).all()
    assert result.share_unreliable == 1
    assert "100.0%" in str(result)


def test_chunks_and_batches_change_nothing_but_the_draws(double):
    pair, x = make_pair(perturb=0.05), torch.randn(16, 5)
    whole = log_likelihood(pair, x, 4000, batch_size=16, chunk=4000)
    pieces = log_likelihood(pair, x, 4000, batch_size=5, chunk=333)
    difference = whole.per_datum - pieces.per_datum
    errors = (
        torch.stack([r.per_datum_monte_carlo_standard_error for r in (whole, pieces)]).square().sum(0).sqrt()
    )
    assert (difference.abs() < SIGMAS * errors).all()
    assert (difference != 0).all()


class Flat(nn.Module):
    """q(z) = N(0, 1) whatever x is: with one draw a chunk, the draws come in the same order."""

    def forward(self, x):
        with pyro.plate("data", len(x), dim=-1):
            pyro.sample("z", dist.Normal(torch.zeros(3), 1.5).to_event(1))


def test_the_same_draws_in_chunks_give_the_same_numbers(double, monkeypatch):
    pair, x = Pair(make_pair().model, Flat()), torch.randn(4, 5)
    stored = torch.randn(48, 4, 3)
    meet(pair, (x,))

    def sample(self, shape=()):
        size = self.shape(torch.Size(shape))
        draws = stored[sample.used : sample.used + (size[0] if len(size) == 3 else 1)]
        sample.used += len(draws)
        return draws.expand(size) if len(size) == 3 else draws[0].expand(size)

    results = []
    monkeypatch.setattr("ppl_vae.core.drawing.plate_nesting", lambda *args: 1)
    monkeypatch.setattr(dist.Normal, "rsample", lambda self, shape=(): sample(self, shape))
    for chunk in (48, 10, 1):
        sample.used = 0
        results.append(log_likelihood(pair, x, 48, batch_size=4, chunk=chunk))
    for other in results[1:]:
        torch.testing.assert_close(other.per_datum, results[0].per_datum)
        torch.testing.assert_close(other.ess, results[0].ess)
        torch.testing.assert_close(other.k_hat, results[0].k_hat)


def test_seed_repeats_and_leaves_the_callers_random_numbers(double):
    pair, x = make_pair(perturb=0.1), torch.randn(6, 5)
    before = torch.get_rng_state()
    first, again = log_likelihood(pair, x, 50, seed=3), log_likelihood(pair, x, 50, seed=3)
    assert torch.equal(torch.get_rng_state(), before)
    assert torch.equal(first.per_datum, again.per_datum)
    assert not torch.equal(first.per_datum, log_likelihood(pair, x, 50, seed=4).per_datum)
    log_likelihood(pair, x, 50, seed=None)
    assert not torch.equal(torch.get_rng_state(), before)


def test_modules_are_in_eval_mode_and_get_their_own_modes_back():
    encoder = nets.MLPEncoder((5,), 3, hidden=(8,), batch_norm=True, dropout=0.5)
    pair = Pair(models.LinearGaussian(3, 5), guides.MeanField(encoder))
    pair.train()
    frozen = [m for m in pair.modules() if isinstance(m, nn.Dropout)]
    for module in frozen:
        module.eval()
    modes = [m.training for m in pair.modules()]
    buffers = {name: buffer.clone() for name, buffer in pair.named_buffers()}
    seen = set()
    for module in encoder.modules():
        module.register_forward_hook(lambda module, *_: seen.add(module.training))
    x = torch.randn(30, 5)
    log_likelihood(pair, x, 30)
    evaluate.bounds(pair, x)
    evaluate.active_units(pair, x)
    assert seen == {False}
    assert frozen
    assert [m.training for m in pair.modules()] == modes
    assert all(torch.equal(buffer, buffers[name]) for name, buffer in pair.named_buffers())


def test_modes_and_random_numbers_come_back_after_an_error():
    pair = make_pair()
    pair.train()
    before = torch.get_rng_state()
    with pytest.raises(ValueError, match="expects input"):
        log_likelihood(pair, torch.randn(4, 9), 10)
    after = torch.get_rng_state()
    assert all(m.training for m in pair.modules())
    torch.set_rng_state(before)
    torch.randn(4, 9)
    assert torch.equal(after, torch.get_rng_state())


def test_inner_plates_are_summed(double):
    pair, x = Pair(TimeModel(), TimeGuide()), torch.randn(12, 4)
    result = log_likelihood(pair, x, 3000)
    # x = (z1 + z2) 1 + unit noise + 0.5 noise, over four steps
    covariance = 2 * torch.ones(4, 4) + 1.25 * torch.eye(4)
    exact = dist.MultivariateNormal(torch.zeros(4), covariance).log_prob(x)
    sigmas = (result.per_datum - exact) / result.per_datum_monte_carlo_standard_error
    assert sigmas.abs().max() < SIGMAS


class Scaled(nn.Module):
    """A linear-Gaussian pair's program whose `data` plate belongs to a larger set."""

    def __init__(self, program: nn.Module, size: int) -> None:
        super().__init__()
        self.program, self.size = program, size

    def forward(self, x):
        with pyro.plate("data", self.size, subsample=torch.arange(len(x)), dim=-1):
            if isinstance(self.program, models.LinearGaussian):
                z = pyro.sample("z", dist.Normal(x.new_zeros(3), 1.0).to_event(1))
                mean = nn.functional.linear(z, self.program.weight, self.program.bias)
                pyro.sample("x", dist.Normal(mean, self.program.log_scale.exp()).to_event(1), obs=x)
            else:
                pyro.sample("z", self.program.source[0].posterior(x))


def test_the_plates_scale_does_not_enter(double):
    pair, x = stretched_pair(1.0), torch.randn(8, 5)
    scaled = Pair(Scaled(pair.model, 100), Scaled(pair.guide, 100))
    result = log_likelihood(scaled, x, 10)
    torch.testing.assert_close(result.per_datum, pair.model.log_evidence(x).detach(), rtol=0, atol=1e-9)


class Masked(nn.Module):
    """A program whose data counts only where the second tensor says so."""

    def __init__(self, program: nn.Module) -> None:
        super().__init__()
        self.program = program

    def forward(self, x, keep):
        with poutine.mask(mask=keep):
            self.program(x)


def test_a_masked_datum_counts_nothing_and_tuples_are_data(double):
    pair, x = stretched_pair(1.0), torch.randn(8, 5)
    keep = torch.arange(8) < 5
    result = log_likelihood(Pair(Masked(pair.model), Masked(pair.guide)), (x, keep), 10, batch_size=3)
    expected = pair.model.log_evidence(x).detach() * keep
    torch.testing.assert_close(result.per_datum, expected, rtol=0, atol=1e-9)


def test_a_split_and_its_tensor_give_the_same():
    pair, x = make_pair(perturb=0.1), torch.randn(9, 5)
    by_split = log_likelihood(pair, data.as_split(x), 20)
    assert torch.equal(by_split.per_datum, log_likelihood(pair, x, 20).per_datum)


def test_one_particle_is_the_sampled_bound_without_a_monte_carlo_error(double):
    pair, x = make_pair(perturb=0.1), torch.randn(9, 5)
    result = log_likelihood(pair, x, 1)
    assert result.per_datum_monte_carlo_standard_error.isnan().all()
    assert (result.ess == 1).all()
    assert math.isnan(result.share_unreliable)
    assert "too few particles" in str(result)
    assert "Monte Carlo" not in str(result)


def test_delta_method_against_a_worked_example():
    value, error, ess = from_log_weight(torch.tensor([[1.0, 3.0]]).log())
    # mean 2, variance 2, so the mean's relative error is sqrt(2 / 2) / 2
    assert float(value) == pytest.approx(math.log(2))
    assert float(error) == pytest.approx(0.5)
    assert float(ess) == pytest.approx(16 / 10)


def test_impossible_data_has_log_likelihood_minus_infinity():
    value, error, ess = from_log_weight(torch.full((1, 3), -math.inf))
    assert float(value) == -math.inf
    assert float(error) != float(error)
    assert float(ess) == 0


def test_global_latents_are_refused_by_name():
    with pytest.raises(PairError, match=r"importance weights per datum.*\['mean'\]"):
        log_likelihood(Pair(GlobalModel(), GlobalGuide()), data=(torch.randn(5),), num_particles=5)


def test_nan_names_the_datum_and_the_site(double):
    pair, x = make_pair(), torch.randn(6, 5)
    pair.model.log_scale.data.fill_(math.nan)
    with pytest.raises(ValueError, match="scale"):  # found by Pyro's validation
        log_likelihood(pair, x, 10)
    pyro.enable_validation(False)
    with pytest.raises(PairError, match=r"datum 0: .*NaN, from the log-likelihood of site 'x'"):
        log_likelihood(pair, x, 10)


@pytest.mark.parametrize("name", ["num_particles", "batch_size", "chunk"])
@pytest.mark.parametrize("value", [0, -1, 2.5, True])
def test_numbers_must_be_positive_and_whole(name, value):
    with pytest.raises(ValueError, match=f"{name} must be a positive whole number or None, got {value}"):
        log_likelihood(make_pair(), torch.randn(3, 5), **{name: value})


def test_bad_data_and_pairs_are_refused():
    pair = make_pair()
    with pytest.raises(ValueError, match="one length"):
        log_likelihood(pair, (torch.randn(3, 5), torch.randn(2)), 5)
    with pytest.raises(ValueError, match="empty"):
        log_likelihood(pair, (torch.randn(0, 5),), 5)
    with pytest.raises(TypeError, match="LinearGaussian"):
        log_likelihood(pair.model, torch.randn(3, 5), 5)


class WrongPlate(nn.Module):
    def forward(self, x):
        with pyro.plate("data", 3, dim=-1):
            pyro.sample("z", dist.Normal(torch.zeros(()), 1.0))


def test_a_plate_of_another_size_is_refused():
    with pytest.raises(PairError, match="a batch of 5 data gave log-weights for 3"):
        log_likelihood(Pair(WrongPlate(), WrongPlate()), torch.randn(5, 1), 4)


def test_plan_covers_all_particles_in_chunks_of_bounded_size():
    images, cpu = to_data(torch.zeros(10_000, 1, 28, 28), make_pair()), torch.device("cpu")
    batch_size, chunks = plan(images, 5000, None, None, cpu)
    assert sum(chunks) == 5000
    assert batch_size * max(chunks) * 784 <= 2**21
    assert max(chunks) - min(chunks) <= 1
    assert plan(images, 5000, 7, 100, cpu) == (7, (100,) * 50)
    assert plan(images, 1, None, None, cpu)[1] == (1,)
    assert plan(images, 3, 20_000, None, cpu)[0] == 10_000


def test_no_draw_is_larger_than_the_chunk(monkeypatch):
    pair, sizes = make_pair(), set()

    def recording(*args, **kwargs):
        drawn = subsampling.draw_whole(*args, **kwargs)
        sizes.add(tuple(drawn.model_trace.nodes["x"]["fn"].batch_shape))
        return drawn

    monkeypatch.setattr("ppl_vae.evaluate.loop.draw_whole", recording)
    log_likelihood(pair, torch.randn(10, 5), 1000, batch_size=4, chunk=50)
    assert sizes == {(50, 4), (50, 2)}


MEMORY = """
import resource, torch
from ppl_vae import Pair, evaluate, guides, models, nets
torch.set_num_threads(1)
pair = Pair(models.LinearGaussian(2, 3000), guides.MeanField(nets.MLPEncoder((3000,), 2, hidden=(8,))))
x = torch.randn(2, 3000)
evaluate.log_likelihood(pair, x, 700, progress=False)
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
evaluate.log_likelihood(pair, x, 10_000, progress=False)
print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before)
"""


@pytest.mark.slow
def test_memory_does_not_grow_with_the_particles():
    # all particles at once would take several tensors of 10,000 * 2 * 3,000 floats, 240 MB each
    run = subprocess.run([sys.executable, "-c", MEMORY], capture_output=True, text=True, check=True)
    unit = 1 if sys.platform == "darwin" else 1024
    assert int(run.stdout) * unit < 120e6


def test_diagnostics_are_those_of_the_log_weights(double, monkeypatch):
    pair, x, kept = make_pair(perturb=0.1), torch.randn(7, 5), []

    def recording(*arguments):
        kept.append(log_weights(*arguments))
        return kept[-1]

    # the function of the same name hides the module
    module = importlib.import_module("ppl_vae.evaluate.importance_sampling")
    monkeypatch.setattr(module, "log_weights", recording)
    result = log_likelihood(pair, x, 200, batch_size=7, chunk=200)
    (batch,) = kept
    torch.testing.assert_close(
        torch.from_numpy(arviz_support.k_hat(batch.numpy())), result.k_hat, rtol=0, atol=0
    )
    torch.testing.assert_close(from_log_weight(batch)[2], result.ess, rtol=0, atol=0)
