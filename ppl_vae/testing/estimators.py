"""check_estimator: what an estimator says of itself in `facts`, held against pairs whose truth is known."""

from __future__ import annotations

import copy
import math
from dataclasses import dataclass, replace

import pyro
import torch
from pyro.infer import SVI

from ppl_vae.core.isolation import one_thread, validation
from ppl_vae.core.particles import Particles
from ppl_vae.estimators import Estimator
from ppl_vae.testing import oracles
from ppl_vae.testing.expectations import Expectations, flat, is_guide
from ppl_vae.testing.oracles import Oracle

# chunks are few, so a standard error is uncertain itself: Student's t with 19 degrees of freedom exceeds
# this once in two million; of bounds, which average thousands, 5 is exceeded about as rarely
_GRADIENT_SIGMAS = 7.4
_BOUND_SIGMAS = 5.0


class EstimatorError(AssertionError):
    """An estimator that is not what its facts say; the message names the check and the numbers."""


@dataclass(frozen=True)
class EstimatorReport:
    """What `check_estimator` held an estimator to.

    Attributes:
        estimator: its repr.
        checks: what was checked, one sentence each.
    """

    estimator: str
    checks: tuple[str, ...]

    def __str__(self) -> str:
        return "\n".join([f"{self.estimator} keeps its word", *(f"  {check}" for check in self.checks)])


@one_thread
def check_estimator(
    estimator: Estimator, *, larger: Estimator | None = None, repeats: int = 500, seed: int = 0
) -> EstimatorReport:
    """Hold an estimator to its `facts` on pairs whose evidence, and expected bound, are known.

    It must equal the evidence at the exact posterior, keep to its side of it elsewhere, have the
    unbiased gradients that it claims (against enumeration of a discrete pair with up to eight
    particles, and against the bound's own pathwise gradient on a linear-Gaussian and on a
    hierarchical pair with a mask and an inner plate), treat data apart, multiply by N/B under
    subsampling, and give stock SVI the same gradients. The estimator, the random numbers and Pyro's
    parameter store are left as they were. Statistical checks have fixed seeds.

    Args:
        estimator: the estimator; a network in it must take (B, 2) data.
        larger: the same with more particles, whose bound must not be lower.
        repeats: a sixtieth of the copies of a batch over which gradients are averaged.
        seed: of the random numbers.

    Raises:
        EstimatorError: naming the check that failed, on which pair, and the numbers.

    >>> from ppl_vae import estimators
    >>> report = check_estimator(estimators.STL(), repeats=20)
    >>> report.estimator
    'STL(num_particles=1)'
    """
    discrete = estimator.facts.needs != "reparameterised"
    pairs: dict[str, Oracle] = {"linear-Gaussian": oracles.linear_gaussian(0.15), "chain": oracles.chain()}
    exact: dict[str, Oracle] = {"linear-Gaussian": oracles.linear_gaussian()}
    if discrete:
        pairs["Bernoulli"], exact["Bernoulli"] = oracles.bernoulli(0.4), oracles.bernoulli()
    checks: list[str] = []
    with torch.random.fork_rng(devices=[]), validation(True), pyro.get_param_store().scope():
        check = _Check(estimator, repeats, seed, checks)
        for name, oracle in pairs.items():
            check.apart(name, oracle)
        for name, oracle in exact.items():
            check.exact(name, oracle)
        for name, oracle in pairs.items():
            check.side(name, oracle)
            check.moves(name, oracle)
            check.subsampled(name, oracle)
            check.svi(name, oracle)
            if larger is not None:
                check.rises(name, oracle, larger)
            check.unbiased(name, oracle)
    return EstimatorReport(repr(estimator), tuple(checks))


@dataclass(frozen=True)
class _Check:
    _estimator: Estimator
    repeats: int
    seed: int
    done: list[str]

    @property
    def estimator(self) -> Estimator:
        """A fresh copy, so that what one check teaches it another does not see."""
        estimator = copy.deepcopy(self._estimator)
        estimator.auxiliary.double()
        return estimator

    @property
    def _expected(self) -> Expectations:
        return Expectations(self.repeats, self.seed)

    def fail(self, message: str) -> EstimatorError:
        return EstimatorError(f"{self._estimator!r}: {message}")

    def exact(self, name: str, oracle: Oracle) -> None:
        mean, error = self._expected.bound(self.estimator, oracle)
        evidence = oracle.log_evidence(*oracle.batch).mean().item()
        if abs(mean - evidence) > _BOUND_SIGMAS * error + 1e-6:
            raise self.fail(
                f"at the exact posterior of the {name} pair the bound is {mean:.6f} +- {error:.1g}, but the "
                f"evidence is {evidence:.6f}"
            )
        self.done.append(f"{name}: equals the evidence at the exact posterior")
        if self._estimator.facts.zero_variance:
            gradient = self._expected.gradients(self.estimator, oracle)[:, is_guide(oracle)]
            if gradient.abs().max() > 1e-8:
                raise self.fail(
                    f"at the exact posterior of the {name} pair the guide's gradient is claimed to be zero, "
                    f"but reaches {gradient.abs().max():.2g}"
                )
            self.done.append(f"{name}: the guide's gradient is zero at the exact posterior")

    def side(self, name: str, oracle: Oracle) -> None:
        facts = self._estimator.facts
        if facts.bound == "neither":
            return
        mean, error = self._expected.bound(self.estimator, oracle)
        evidence = oracle.log_evidence(*oracle.batch).mean().item()
        above = (mean - evidence) * (1 if facts.bound == "lower" else -1)
        if not above <= _BOUND_SIGMAS * error + 1e-9:
            raise self.fail(
                f"claims to be a {facts.bound} bound, but on the {name} pair is {mean:.5f} +- {error:.1g} "
                f"where the evidence is {evidence:.5f}"
            )
        self.done.append(f"{name}: on the {facts.bound} side of the evidence")

    def rises(self, name: str, oracle: Oracle, larger: Estimator) -> None:
        mean, error = self._expected.bound(self.estimator, oracle)
        more, more_error = self._expected.bound(larger, oracle)
        if mean - more > _BOUND_SIGMAS * math.hypot(error, more_error):
            raise self.fail(f"on the {name} pair it is {mean:.5f}, but {larger!r} is lower, {more:.5f}")
        self.done.append(f"{name}: {larger!r} is not lower")

    def apart(self, name: str, oracle: Oracle) -> None:
        estimator = self.estimator
        torch.manual_seed(self.seed)
        with torch.no_grad():
            particles = estimator.draw(oracle.pair.model, oracle.pair.guide, *oracle.batch)
            together = estimator.bound(particles)
        if together.shape != (particles.batch_size,):
            raise self.fail(
                f"bound must have shape (B,) = ({particles.batch_size},), not {list(together.shape)}"
            )
        with torch.no_grad():
            alone = [estimator.bound(_only(particles, datum)) for datum in range(particles.batch_size)]
        if not torch.allclose(together, torch.cat(alone), rtol=1e-10, atol=1e-10):
            raise self.fail(
                f"on the {name} pair the bound of a datum changes when others leave the batch: "
                f"{together.tolist()} against {torch.cat(alone).tolist()}"
            )
        self.done.append(f"{name}: one bound for each datum, apart from the others")

    def moves(self, name: str, oracle: Oracle) -> None:
        if not self._expected.loss(self.estimator, oracle)[1][is_guide(oracle)].any():
            raise self.fail(
                f"the guide's gradient on the {name} pair is zero though the guide is not exact: its draws "
                f"are not treated. Say which sites it needs, Facts(needs='reparameterised')"
            )

    def subsampled(self, name: str, oracle: Oracle) -> None:
        factor = 4
        whole, gradient = self._expected.loss(self.estimator, oracle)
        pair = copy.deepcopy(oracle.pair)
        for program in (pair.model, pair.guide):
            program.size = factor * len(oracle.batch[0])  # type: ignore[assignment]
        part, part_gradient = self._expected.loss(self.estimator, replace(oracle, pair=pair))
        if not math.isclose(part, factor * whole, rel_tol=1e-9):
            raise self.fail(
                f"on the {name} pair under subsampling with N/B = {factor} the loss is {part:.6f}, not "
                f"{factor} times {whole:.6f}: the factor belongs on the bound of each datum"
            )
        if not torch.allclose(part_gradient, factor * gradient, rtol=1e-8, atol=1e-9):
            raise self.fail(
                f"on the {name} pair under subsampling the gradient is not {factor} times its own"
            )
        self.done.append(f"{name}: N/B multiplies the bound and its gradient under subsampling")

    def svi(self, name: str, oracle: Oracle) -> None:
        loss, gradient = self._expected.loss(self.estimator, oracle)
        pair, estimator, rate = copy.deepcopy(oracle.pair), self.estimator, 1e-3
        before = flat(list(pair.parameters()))
        svi = SVI(*pair.pyro(), pyro.optim.SGD({"lr": rate}), estimator)
        torch.manual_seed(self.seed)
        stock = svi.step(*oracle.batch)
        moved = (before - flat(list(pair.parameters()))) / rate
        if not math.isclose(stock, loss, rel_tol=1e-9):
            raise self.fail(f"on the {name} pair stock SVI sees a loss of {stock:.6f}, not {loss:.6f}")
        if not torch.allclose(moved, gradient, rtol=1e-6, atol=1e-8):
            raise self.fail(f"on the {name} pair stock SVI moves the parameters by another gradient")
        self.done.append(f"{name}: stock SVI follows the same gradient")

    def unbiased(self, name: str, oracle: Oracle) -> None:
        facts, guide = self._estimator.facts, is_guide(oracle)
        claimed = {"model": facts.unbiased_model, "guide": facts.unbiased_guide}
        if not any(claimed.values()):
            return
        reference = self._expected.enumerated if name == "Bernoulli" else self._expected.pathwise
        wanted = reference(self.estimator, oracle)
        if wanted is None:
            return
        difference = self._expected.gradients(self.estimator, oracle) - wanted
        mean, error = difference.mean(0), difference.std(0) / math.sqrt(len(difference)) + 1e-9
        for role, part in (("model", ~guide), ("guide", guide)):
            if not claimed[role]:
                continue
            worst = (mean[part].abs() / error[part]).max().item()
            if not worst < _GRADIENT_SIGMAS:
                raise self.fail(
                    f"claims an unbiased gradient of the {role}, but on the {name} pair it is {worst:.1f} "
                    f"standard errors from the gradient of the bound's expectation"
                )
            self.done.append(f"{name}: the gradient of the {role} is unbiased")


def _only(particles: Particles, datum: int) -> Particles:
    """The particles of one datum alone."""
    here = slice(datum, datum + 1)
    closed = {site: particles.kl_closed_form(site) for site in particles.latent_sites}
    return replace(
        particles,
        log_likelihood={site: term[:, here] for site, term in particles.log_likelihood.items()},
        log_prior={site: term[:, here] for site, term in particles.log_prior.items()},
        log_guide={site: term[:, here] for site, term in particles.log_guide.items()},
        log_draw={site: term[:, here] for site, term in particles.log_draw.items()},
        _closed_form={site: term if term is None else term[:, here] for site, term in closed.items()},
    )
