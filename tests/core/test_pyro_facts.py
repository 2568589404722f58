"""The ten facts about Pyro 1.9.2 of DESIGN.md: each shown to be so, beside ours doing it right.

When one of the first assertions fails, Pyro has changed: take the fact out of DESIGN.md.
"""

from __future__ import annotations

import math
import warnings
from contextlib import nullcontext

import pyro
import pyro.distributions as dist
import pytest
import torch
from pyro import poutine
from pyro.infer import SVI, RenyiELBO, Trace_ELBO, TraceMeanField_ELBO
from torch import nn

from ppl_vae import Pair, PairError, estimators
from ppl_vae.testing import check_pair, oracles
from ppl_vae.train.step import Step
from tests.capture.helpers import adam, captured_step
from tests.programs import GlobalMeanGuide, GlobalMeanModel

pytestmark = pytest.mark.usefixtures("double")


def renyi(alpha=0.0, num_particles=20, nesting=1):
    return RenyiELBO(
        alpha=alpha, num_particles=num_particles, vectorize_particles=True, max_plate_nesting=nesting
    )


def average(loss, pair, batch, count=200):
    pyro.set_rng_seed(0)
    with torch.no_grad():
        values = torch.tensor([loss.loss(pair.model, pair.guide, *batch) for _ in range(count)])
    return values.mean().item(), values.std().item() / math.sqrt(count)


def test_1_renyi_under_subsampling_is_no_bound():
    """N/B inside the logsumexp turns the mean over particles into a maximum."""
    oracle = oracles.linear_gaussian(0.1)
    pair, factor = oracle.pair, 50
    for program in (pair.model, pair.guide):
        program.size = factor * len(oracle.batch[0])
    evidence = factor * oracle.log_evidence(*oracle.batch).sum().item()
    stock, stock_error = average(renyi(num_particles=100), pair, oracle.batch)
    ours, ours_error = average(estimators.IWAE(100), pair, oracle.batch)
    assert -stock > evidence + 6 * stock_error
    assert -ours < evidence + 6 * ours_error
    assert -ours == pytest.approx(evidence, rel=0.02)


class Unplated(nn.Module):
    """A linear-Gaussian program of `oracles` without a plate: the whole batch is one event."""

    def __init__(self, program):
        super().__init__()
        self.program = program

    def forward(self, x):
        sample = pyro.sample

        def together(name, fn, **kwargs):
            fn = fn if fn.batch_shape else fn.expand([len(x)])
            return sample(name, fn.to_event(1), **kwargs)

        pyro.sample, plate = together, self.program.plate
        self.program.plate = lambda x: nullcontext()
        try:
            return self.program(x)
        finally:
            pyro.sample = sample
            self.program.plate = plate


def test_2_without_an_enclosing_plate_renyi_weights_the_batch_jointly():
    oracle = oracles.linear_gaussian(0.2)
    batch = (oracle.batch[0].repeat(20, 1),)
    unplated = Pair(Unplated(oracle.pair.model), Unplated(oracle.pair.guide))
    jointly, error = average(renyi(nesting=0), unplated, batch)
    apart, _ = average(renyi(), oracle.pair, batch)
    assert jointly > apart + 20 * error, "the bound of the same pair is much looser"
    with pytest.raises(PairError, match="neither program has a site inside a plate called 'data'"):
        estimators.IWAE(20).loss(unplated.model, unplated.guide, *batch)
    # a latent outside the plate: Pyro weighs all data with it, ours says what can treat it
    shared, x = Pair(GlobalMeanModel(4), GlobalMeanGuide(4)), torch.randn(4)
    assert math.isfinite(renyi().loss(shared.model, shared.guide, x))
    with pytest.raises(PairError, match=r"\['theta'\]. Use estimators.ELBO"):
        estimators.IWAE(20).loss(shared.model, shared.guide, x)


def test_3_renyi_gives_a_discrete_guide_no_gradient():
    oracle = oracles.bernoulli(0.4)
    pair = oracle.pair
    renyi().loss_and_grads(*pair.pyro(), *oracle.batch)
    assert all((p.grad == 0).all() for p in pair.guide.parameters())
    for estimator in (estimators.IWAE(20), estimators.VIMCO(20)):
        pair.zero_grad(set_to_none=True)
        estimator.loss_and_grads(*pair.pyro(), *oracle.batch)
        assert all((p.grad != 0).all() for p in pair.guide.parameters())


class Scaled(nn.Module):
    """A mean-field pair's program; `scale` on its latent site."""

    def __init__(self, scale, guide=False):
        super().__init__()
        self.scale, self.guide = scale, guide
        self.loc = nn.Parameter(torch.tensor(0.8))

    def forward(self, x):
        with pyro.plate("data", len(x), dim=-1):
            with poutine.scale(scale=self.scale):
                z = pyro.sample("z", dist.Normal(self.loc if self.guide else 0.0, 1.0))
            if not self.guide:
                pyro.sample("x", dist.Normal(z, 1.0), obs=x)


def seeded(loss, model, guide, x):
    pyro.set_rng_seed(0)
    return loss.loss(model, guide, x)


def test_4_mean_field_elbo_uses_the_guides_scale_only():
    x, guide = torch.randn(3), Scaled(1.0, guide=True)
    stock, ours = TraceMeanField_ELBO(), estimators.MeanFieldELBO()
    plain, scaled = Scaled(1.0), Scaled(0.1)
    assert seeded(stock, plain, guide, x) == seeded(stock, scaled, guide, x)
    assert seeded(ours, plain, guide, x) != pytest.approx(seeded(ours, scaled, guide, x), abs=0.1)
    assert seeded(ours, scaled, guide, x) == pytest.approx(seeded(Trace_ELBO(), scaled, guide, x))


def test_5_beta_by_scale_under_renyi_is_no_beta_bound():
    """With a large K it ignores the prior's cost: beta * (log p - log q) no longer is a divergence."""
    x, beta = torch.full((3,), 2.0), 4.0
    model, guide = Scaled(beta), Scaled(beta, guide=True)

    def exact():  # E_q[log p(x | z)] - beta KL(q || p)
        reconstruction = -0.5 * ((x - 0.8) ** 2 + 1 + math.log(2 * math.pi))
        return (reconstruction - beta * 0.5 * 0.8**2).sum().item()

    pair = Pair(model, guide)
    one, error = average(estimators.ELBO(100), pair, (x,))
    assert -one == pytest.approx(exact(), abs=6 * error)
    stock, stock_error = average(renyi(num_particles=100), pair, (x,))
    assert -stock > exact() + 100 * stock_error
    # ours weighs the KL apart, and only in estimators that have one
    plain = Pair(Scaled(1.0), Scaled(1.0, guide=True))
    particles = estimators.ELBO(20_000).draw(plain.model, plain.guide, x).with_kl_weight({"z": beta})
    assert estimators.ELBO().bound(particles).sum().item() == pytest.approx(exact(), abs=0.3)
    assert estimators.ELBO.takes_kl_weight
    assert not estimators.IWAE.takes_kl_weight


def test_6_renyi_has_no_differentiable_loss_and_skips_pairs_without_param_sites():
    oracle = oracles.linear_gaussian(0.2)
    pair = oracle.pair
    with pytest.raises((NotImplementedError, AttributeError)):
        renyi()(pair.model, pair.guide)(*oracle.batch)
    renyi().loss_and_grads(pair.model, pair.guide, *oracle.batch)
    assert all(p.grad is None for p in pair.parameters())
    estimators.IWAE(20)(pair.model, pair.guide)(*oracle.batch).backward()
    assert all(p.grad is not None for p in pair.parameters())
    pair.zero_grad(set_to_none=True)
    estimators.IWAE(20).loss_and_grads(pair.model, pair.guide, *oracle.batch)
    assert all(p.grad is not None for p in pair.parameters())


class Normed(nn.Module):
    def __init__(self):
        super().__init__()
        self.norm, self.head = nn.BatchNorm1d(2), nn.Linear(2, 2)

    def forward(self, x):
        loc = self.head(self.norm(x))
        with pyro.plate("data", len(x), dim=-1):
            pyro.sample("z", dist.MultivariateNormal(loc, torch.eye(2)))


def test_7_evaluating_a_loss_moves_batch_norm_and_a_step_without_gradients_moves_parameters():
    from ppl_vae import evaluate

    oracle = oracles.linear_gaussian()
    pair = Pair(oracle.pair.model, Normed().double())
    svi = SVI(*pair.pyro(), pyro.optim.Adam({"lr": 0.1}), Trace_ELBO())
    svi.evaluate_loss(*oracle.batch)
    assert pair.guide.norm.num_batches_tracked == 1
    svi.step(*oracle.batch)
    before = pair.guide.head.weight.detach().clone()
    with torch.no_grad():
        svi.step(*oracle.batch)  # zeros for a gradient, and Adam's momentum
    assert (pair.guide.head.weight != before).any()
    tracked = int(pair.guide.norm.num_batches_tracked)
    evaluate.bounds(pair, oracle.batch[0])
    assert pair.guide.norm.num_batches_tracked == tracked
    assert pair.training
    step = Step(pair, estimators.ELBO(), torch.optim.Adam(pair.parameters(), lr=0.1))
    step(*oracle.batch)
    before = pair.guide.head.weight.detach().clone()
    with torch.no_grad():
        step(*oracle.batch)
    assert torch.equal(pair.guide.head.weight, before)


def test_8_a_misspelt_site_only_draws_a_warning():
    oracle = oracles.linear_gaussian()

    class Misspelt(nn.Module):
        def forward(self, x):
            with pyro.plate("data", len(x), dim=-1):
                pyro.sample("zz", dist.MultivariateNormal(torch.zeros(2), torch.eye(2)))

    pair = Pair(oracle.pair.model, Misspelt())
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        assert math.isfinite(Trace_ELBO().loss(pair.model, pair.guide, *oracle.batch))
    assert any("Found vars in model but not guide" in str(warning.message) for warning in caught)
    message = r"only in the model: \['z'\]\n  only in the guide: \['zz'\]"
    for check in (check_pair, lambda pair, x: estimators.ELBO().loss(pair.model, pair.guide, x)):
        with pytest.raises(PairError, match=message):
            check(pair, *oracle.batch)


def test_9_an_elbo_module_does_not_compile_into_one_graph():
    """Ours takes no part in that: a step is captured below autograd, as one graph, not through Python."""
    oracle = oracles.linear_gaussian()
    compiled = torch.compile(
        Trace_ELBO()(oracle.pair.model, oracle.pair.guide), backend="eager", fullgraph=True
    )
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        with pytest.raises(Exception, match=r"(?i)graph break|unsupported|fullgraph|skipped inlining"):
            compiled(*oracle.batch)
    torch._dynamo.reset()
    pair, (x,) = oracle.pair, oracle.batch
    ours = captured_step(pair, Trace_ELBO(), adam(pair))
    weights = [parameter.detach().clone() for parameter in pair.parameters()]
    with pyro.validation_enabled(False):
        assert ours(x).isfinite()
    assert any((old != new).any() for old, new in zip(weights, pair.parameters(), strict=True))


def test_10_distributions_validate_their_arguments_at_every_call(monkeypatch):
    from ppl_vae import fit
    from ppl_vae.core.meeting import meet

    checked = []
    init = torch.distributions.Distribution.__init__

    def counting(self, *args, **kwargs):
        init(self, *args, **kwargs)
        checked.append(self._validate_args)

    monkeypatch.setattr(torch.distributions.Distribution, "__init__", counting)
    oracle = oracles.linear_gaussian()
    Trace_ELBO().loss(oracle.pair.model, oracle.pair.guide, *oracle.batch)
    assert sum(checked) >= 3, "the two latents and the observation"
    counts = []
    meet(oracle.pair, oracle.batch)
    for epochs in (1, 20):  # setting up validates; the steps do not
        checked.clear()
        data = oracle.batch[0]
        fit(oracle.pair, estimators.ELBO(), data, epochs=epochs, device="cpu", progress=False, check=False)
        counts.append((sum(checked), len(checked)))
    assert counts[0][0] == counts[1][0]
    assert counts[1][1] >= 3 * 20
