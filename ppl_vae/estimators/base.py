"""Estimator: a bound on the log-evidence as a function of the particles, and the gradient that it follows."""

from __future__ import annotations

import itertools
from abc import abstractmethod
from typing import Any, ClassVar

import pyro
import torch
from pyro.infer import ELBO as PyroELBO
from torch import Tensor, nn

from ppl_vae.core import drawing, separate
from ppl_vae.core.checks import check_count
from ppl_vae.core.isolation import one_thread
from ppl_vae.core.particles import Particles
from ppl_vae.core.sites import PairError, Program
from ppl_vae.estimators.facts import Facts

_numbers = itertools.count()


class Estimator(PyroELBO):
    r"""A bound per datum and the surrogate whose gradient is the estimator's gradient.

    A new estimator defines `bound(particles)`, (B,) in nats. Where the default gradient will not
    do it also defines `surrogate(particles)`, with `separates = True` where the model, the path and
    the score are weighed apart (see `separate.SeparateParticles`). The loss over a batch is

    .. math:: -\frac{N}{B} \sum_i \mathrm{bound}_i

    so an estimator works in stock `pyro.infer.SVI` as Pyro's own do.

    Args:
        num_particles: K, the number of draws from the guide for each datum.

    Raises:
        ValueError: when `num_particles` is not a positive whole number.
        PairError: from the losses, for a pair that breaks the contract, that has latents outside the
            `data` plate when the bound cannot treat them, or sites that `facts` says it cannot treat.

    Attributes:
        facts: what theory says of it.
        auxiliary: what the estimator itself learns or remembers (a baseline); its parameters are
            trained with the pair's and its state saved with theirs. Empty for most.
    """

    facts: Facts = Facts("neither", unbiased_model=False, unbiased_guide=False)

    handles_global_latents: ClassVar[bool] = False
    """Whether latents outside the `data` plate have a place in the bound."""
    takes_kl_weight: ClassVar[bool] = False
    """Whether a weight on the KL term keeps the objective meaningful."""
    needs_density: ClassVar[bool] = True
    """Whether each site's density enters, and not its divergence from the guide's distribution alone."""
    separates: ClassVar[bool] = False
    """Whether its particles are `SeparateParticles`."""
    fixed_size: ClassVar[bool] = True
    """Whether every draw has `num_particles` particles, as a captured step needs."""

    def __init_subclass__(cls, **kwargs: Any) -> None:
        """Refuse facts that are none, which would be believed or end in an error far from here."""
        super().__init_subclass__(**kwargs)
        facts = vars(cls).get("facts", cls.facts)
        if not isinstance(facts, Facts) and not hasattr(facts, "__get__"):
            raise TypeError(
                f"{cls.__name__}.facts must be estimators.Facts(...), such as Facts('lower'), "
                f"got {facts!r:.80}"
            )

    def __init__(self, num_particles: int = 1) -> None:
        check_count("num_particles", num_particles)
        super().__init__(num_particles=int(num_particles), vectorize_particles=True)
        self.auxiliary = nn.Module()
        self._name = f"estimator{next(_numbers)}"

    @abstractmethod
    def bound(self, particles: Particles) -> Tensor:
        """(B,) nats: an estimate of a lower bound on log p(x_i)."""

    def surrogate(self, particles: Particles) -> Tensor:
        r"""(B,): its gradient is the estimator's gradient; by default that of the expected bound.

        .. math:: \nabla \mathcal{L}_i + \mathcal{L}_i \sum_k \nabla \log q(z_{ki} \mid x_i)

        The second term, the score function's, runs over the sites without a pathwise gradient.
        """
        bound = self.bound(particles)
        if particles.score is None:
            return bound
        return bound + particles.score.sum(0) * bound.detach()

    def global_bound(self, particles: Particles) -> Tensor | None:
        """Scalar: what the latents outside the `data` plate add to the bound; None without them."""
        if not particles.global_sites:
            return None
        raise PairError(
            f"{type(self).__name__} weighs each datum's particles apart, so it has no place for latents "
            f"outside the plate 'data': {list(particles.global_sites)}. Use estimators.ELBO, "
            f"estimators.MeanFieldELBO or pyro.infer.Trace_ELBO, or move the sites into the plate"
        )

    def global_surrogate(self, particles: Particles) -> Tensor | None:
        """Scalar: the surrogate of `global_bound`."""
        return self.global_bound(particles)

    @one_thread
    def draw(self, model: Program, guide: Program, *args: Any, **kwargs: Any) -> Particles:
        """The particles that this estimator works on."""
        drawn = separate.draw if self.separates else drawing.draw
        particles = drawn(model, guide, args, kwargs, num_particles=self.num_particles)
        self.check_sites(particles)
        return particles

    def prepare(self, model: Program, guide: Program, *args: Any, **kwargs: Any) -> None:
        """What the estimator has to find out about a pair before its first step; nothing for most."""

    def check_sites(self, particles: Particles) -> None:
        """Raise PairError for a site without the pathwise gradient that the estimator needs."""
        if self.facts.needs_reparameterised and particles.non_reparameterised:
            raise PairError(
                f"{type(self).__name__} needs reparameterised draws, but the guide's sites "
                f"{sorted(particles.non_reparameterised)} have none. Use estimators.VIMCO, "
                f"estimators.NVIL or estimators.ReweightedWakeSleep"
            )

    @one_thread
    def total(self, particles: Particles) -> Tensor:
        """Scalar: the loss of a batch; its value is minus the bound, its gradient the surrogate's."""
        surrogate = _summed(self.surrogate(particles), self.global_surrogate(particles), particles)
        with torch.no_grad():
            value = _summed(self.bound(particles), self.global_bound(particles), particles)
        return -(value + (surrogate - surrogate.detach()))

    @one_thread
    def differentiable_loss(self, model: Program, guide: Program, *args: Any, **kwargs: Any) -> Tensor:
        """Scalar: minus the bound over the whole data set, differentiable."""
        return self.total(self.draw(model, guide, *args, **kwargs))

    @one_thread
    def loss(self, model: Program, guide: Program, *args: Any, **kwargs: Any) -> float:
        """Minus the bound over the whole data set, as Pyro's `ELBO.loss`."""
        with torch.no_grad():
            particles = self.draw(model, guide, *args, **kwargs)
            return -_summed(self.bound(particles), self.global_bound(particles), particles).item()

    @one_thread
    def loss_and_grads(self, model: Program, guide: Program, *args: Any, **kwargs: Any) -> float:
        """The same, with the surrogate's gradient added to the parameters' `grad`."""
        for name, parameter in self.auxiliary.named_parameters():
            pyro.param(f"{self._name}$$${name}", parameter)  # so that stock SVI trains them too
        loss = self.differentiable_loss(model, guide, *args, **kwargs)
        if loss.requires_grad:
            loss.backward(retain_graph=self.retain_graph)
        return loss.item()

    def _get_trace(self, model: Program, guide: Program, args: Any, kwargs: Any) -> Any:
        particles = self.draw(model, guide, *args, **kwargs)
        return particles.model_trace, particles.guide_trace

    def __repr__(self) -> str:
        return f"{type(self).__name__}(num_particles={self.num_particles})"


def _summed(per_datum: Tensor, outside: Tensor | None, particles: Particles) -> Tensor:
    total = per_datum.sum()
    if particles.scale != 1.0:
        total = total * particles.scale
    return total if outside is None else total + outside


def ours(estimator: PyroELBO) -> Estimator | None:
    """The estimator where it is one of ours, which work on particles; None for one of Pyro's own.

    The one place where the two kinds are told apart.
    """
    return estimator if isinstance(estimator, Estimator) else None


def auxiliary_of(estimator: PyroELBO) -> nn.Module:
    """What an estimator itself learns or remembers; Pyro's have no such module."""
    own = ours(estimator)
    return nn.Module() if own is None else own.auxiliary
