"""Reweighted wake-sleep: the guide learns from the model's posterior or dreams, never through a draw."""

from __future__ import annotations

from dataclasses import dataclass, field, fields
from typing import Any, ClassVar

import torch
from pyro import poutine
from torch import Tensor

from ppl_vae.core.drawing import read
from ppl_vae.core.particles import Particles, log_mean_exp
from ppl_vae.core.separate import SeparateParticles
from ppl_vae.core.sites import PairError, Program, Uncondition
from ppl_vae.estimators.base import Estimator
from ppl_vae.estimators.facts import Facts


@dataclass(frozen=True)
class DreamingParticles(SeparateParticles):
    """Particles with the guide's log-density of a dream.

    Attributes:
        dream: (B,) log q(z | x) at one (z, x) drawn from the model for each datum; None without one.
    """

    dream: Tensor | None = field(default=None, repr=False)


class ReweightedWakeSleep(Estimator):
    r"""Reweighted wake-sleep, per datum.

    .. math:: \nabla_\theta := \sum_k \tilde w_{ki} \nabla_\theta \log p(x_i, z_{ki}), \qquad
        \nabla_\phi := \lambda \sum_k \tilde w_{ki} \nabla_\phi \log q(z_{ki} \mid x_i)
        + (1 - \lambda) \nabla_\phi \log q(z' \mid x'), \quad x', z' \sim p

    The bound is the IWAE's, a lower bound, and the model's gradient (wake-theta) is unbiased for it.
    The guide's lowers KL(p || q) at the data (wake-phi; its self-normalised weights are biased at
    finite K) and at the model's dreams (sleep-phi, unbiased). Any sites will do: no gradient passes
    through a draw. Sleep needs programs whose data are the observed sites' values as they are.

    Args:
        num_particles: K.
        insomnia: lambda, the share of wake-phi, in [0, 1].

    Raises:
        ValueError: when insomnia is outside [0, 1].
        PairError: from the losses, when a dream cannot be handed to the guide.

    Bornschein and Bengio, Reweighted Wake-Sleep, arXiv:1406.2751;
    Le et al., Revisiting Reweighted Wake-Sleep, arXiv:1805.10469.
    """

    separates: ClassVar[bool] = True

    def __init__(self, num_particles: int = 5, insomnia: float = 1.0) -> None:
        super().__init__(num_particles)
        if not 0 <= insomnia <= 1:
            raise ValueError(f"insomnia must be in [0, 1], got {insomnia!r}")
        self.insomnia = float(insomnia)
        follows = {1.0: "wake-phi", 0.0: "sleep-phi"}.get(self.insomnia, "wake-phi and sleep-phi")
        self.facts = Facts("lower", unbiased_guide=False, guide_follows=follows, paper="1406.2751")

    def draw(self, model: Program, guide: Program, *args: Any, **kwargs: Any) -> Particles:
        particles = super().draw(model, guide, *args, **kwargs)
        if self.insomnia == 1.0 or not torch.is_grad_enabled():
            return particles
        known = {f.name: getattr(particles, f.name) for f in fields(SeparateParticles)}
        return DreamingParticles(**known, dream=_dream(model, guide, args, kwargs, particles))

    def bound(self, particles: Particles) -> Tensor:
        return log_mean_exp(particles.log_weight)

    def surrogate(self, particles: SeparateParticles) -> Tensor:  # type: ignore[override]
        weight = particles.log_weight.detach().softmax(0)
        surrogate = (weight * (particles.model_term + self.insomnia * particles.score_term)).sum(0)
        dream = particles.dream if isinstance(particles, DreamingParticles) else None
        return surrogate if dream is None else surrogate + (1 - self.insomnia) * dream

    def __repr__(self) -> str:
        return f"ReweightedWakeSleep(num_particles={self.num_particles}, insomnia={self.insomnia})"


def _dream(
    model: Program, guide: Program, args: tuple[Any, ...], kwargs: dict[str, Any], awake: Particles
) -> Tensor:
    """(B,): log q(z | x) at a draw of the model that has its observed sites drawn too."""
    with torch.no_grad(), poutine.block():
        dream = poutine.trace(Uncondition()(model)).get_trace(*args, **kwargs)
    dreamed = list(args)
    for name in awake.log_likelihood:
        observed = awake.model_trace.nodes[name]["value"]
        places = [place for place, value in enumerate(args) if _is_same(value, observed)]
        if len(places) != 1:
            raise PairError(
                f"sleep-phi hands the guide dreamed data in the place of the observed, but site {name!r} "
                "does not observe one of the batch's tensors as it is. Use insomnia=1.0, which is wake-phi "
                "alone"
            )
        dreamed[places[0]] = dream.nodes[name]["value"]
    replayed = poutine.trace(poutine.replay(guide, trace=dream)).get_trace(*dreamed, **kwargs)
    terms = read(replayed, replayed, num_particles=1).log_guide
    return torch.stack(list(terms.values())).sum(0)[0]


def _is_same(value: Any, observed: Tensor) -> bool:
    if value is observed:
        return True
    if not isinstance(value, Tensor) or value.shape != observed.shape or value.stride() != observed.stride():
        return False
    # not its address, which no captured step knows
    memory = value.untyped_storage().data_ptr() == observed.untyped_storage().data_ptr()
    return memory and bool(value.storage_offset() == observed.storage_offset())
