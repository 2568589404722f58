"""Antithetic gradients for Bernoulli sites: two opposite draws take the place of a baseline."""

from __future__ import annotations

from abc import abstractmethod
from dataclasses import dataclass, field, fields
from typing import Any

import torch
from pyro.poutine.messenger import Messenger
from torch import Tensor
from torch.distributions import Bernoulli

from ppl_vae.core import drawing
from ppl_vae.core.checks import check_count
from ppl_vae.core.particles import Particles
from ppl_vae.core.sites import PairError, Program, data_frame
from ppl_vae.estimators.elbo import ELBO
from ppl_vae.estimators.facts import Facts


@dataclass(frozen=True)
class AntitheticParticles(Particles):
    """2 n particles of which the j-th and the (n + j)-th have opposite Bernoulli draws.

    Attributes:
        uniform: by Bernoulli site, the u of the first n: z = [u < p] there, z' = [1 - u < p] opposite.
        logits: by Bernoulli site, those of the first n.
    """

    uniform: dict[str, Tensor] = field(default_factory=dict, repr=False)
    logits: dict[str, Tensor] = field(default_factory=dict, repr=False)


class _Antithetic(ELBO):
    """The ELBO of pairs of opposite draws; `factor` is what an estimator of the family defines."""

    def __init__(self, num_pairs: int = 1) -> None:
        check_count("num_pairs", num_pairs)
        super().__init__(2 * num_pairs)
        self.num_pairs = num_pairs

    @abstractmethod
    def factor(self, uniform: Tensor, probability: Tensor) -> Tensor:
        """What multiplies f(z) - f(z') in the gradient of a logit."""

    def draw(self, model: Program, guide: Program, *args: Any, **kwargs: Any) -> Particles:
        opposite = _Opposite(self.num_pairs)
        particles = drawing.draw(
            model, guide, args, kwargs, num_particles=self.num_particles, guide_handler=opposite
        )
        self._check(particles, opposite)
        read = {f.name: getattr(particles, f.name) for f in fields(Particles)}
        logits = {site: both[0] for site, both in opposite.logits.items()}
        return AntitheticParticles(**read, uniform=opposite.uniform, logits=logits)

    def _check(self, particles: Particles, opposite: _Opposite) -> None:
        name = type(self).__name__
        discrete = [site for site in particles.log_guide if site in particles.non_reparameterised]
        other = [site for site in discrete if site not in opposite.uniform]
        if other:
            raise PairError(
                f"{name} treats Bernoulli and reparameterised sites, but {other} are neither. Use "
                f"estimators.VIMCO, estimators.NVIL or estimators.ScoreFunction"
            )
        if len(particles.latent_sites) == 1:
            return  # nothing to depend on, and so no values to compare, for which a GPU would wait
        dependent = [site for site, (one, two) in opposite.logits.items() if bool((one != two).any())]
        if dependent:
            raise PairError(
                f"{name} needs Bernoulli sites whose logits do not depend on other draws, but those of "
                f"{dependent} do: opposite draws of them have different odds. Use estimators.VIMCO or "
                f"estimators.NVIL"
            )

    def surrogate(self, particles: AntitheticParticles) -> Tensor:  # type: ignore[override]
        kept = self.reward(particles)
        for site in particles.log_guide:
            kept = kept + self._own_score(particles, site)
        surrogate = kept.mean(0)
        found = self.scores(particles)
        for site, logits in particles.logits.items():
            event_dim = particles.guide_trace.nodes[site]["fn"].event_dim
            moved = self.factor(particles.uniform[site], logits.detach().sigmoid()) * logits
            moved = moved.flatten(-event_dim).sum(-1) if event_dim else moved
            first, second = found[site].reward.split(self.num_pairs)
            gained = (first - second) * moved.reshape(first.shape)
            surrogate = surrogate + gained.reshape(self.num_pairs, -1, gained.shape[-1]).sum(1).mean(0)
        return surrogate

    def __repr__(self) -> str:
        return f"{type(self).__name__}(num_pairs={self.num_pairs})"


class ARM(_Antithetic):
    r"""Augment-REINFORCE-merge: the ELBO with the gradient of Bernoulli logits l from opposite draws.

    .. math:: \nabla_l := \bigl(f(z) - f(z')\bigr) \bigl(\tfrac12 - u\bigr), \qquad
        z = [u < \sigma(l)], \quad z' = [1 - u < \sigma(l)], \quad f = \log w

    A lower bound, and unbiased gradients. Every site inside the `data` plate is Bernoulli, with logits
    that depend on no other draw, or reparameterised.

    Args:
        num_pairs: n; 2 n particles are drawn.

    Raises:
        ValueError: when num_pairs is not a positive whole number.
        PairError: from the losses, for other discrete sites and for Bernoulli sites that depend on others.

    Yin and Zhou, ARM: Augment-REINFORCE-Merge, arXiv:1807.11143.
    """

    facts = Facts("lower", needs="bernoulli", paper="1807.11143")

    def factor(self, uniform: Tensor, probability: Tensor) -> Tensor:
        return 0.5 - uniform


class DisARM(_Antithetic):
    r"""The ELBO with ARM's gradient averaged over all u that give the same two draws.

    .. math:: \nabla_l := \tfrac12 \bigl(f(z) - f(z')\bigr) (z - z') \, \sigma(|l|), \qquad
        z = [u < \sigma(l)], \quad z' = [1 - u < \sigma(l)], \quad f = \log w

    A lower bound, and unbiased gradients with less variance than `ARM`'s. Every site inside the `data`
    plate is Bernoulli, with logits l that depend on no other draw, or reparameterised.

    Args:
        num_pairs: n; 2 n particles are drawn.

    Raises:
        ValueError: when num_pairs is not a positive whole number.
        PairError: from the losses, for other discrete sites and for Bernoulli sites that depend on others.

    Dong, Mnih and Tucker, DisARM: An Antithetic Gradient Estimator, arXiv:2006.10680.
    """

    facts = Facts("lower", needs="bernoulli", paper="2006.10680")

    def factor(self, uniform: Tensor, probability: Tensor) -> Tensor:
        differs = (uniform < probability).to(uniform) - (1 - uniform < probability).to(uniform)
        return 0.5 * differs * torch.maximum(probability, 1 - probability)


class _Opposite(Messenger):
    """Draws Bernoulli sites inside the `data` plate as pairs of opposites, and keeps their noise."""

    def __init__(self, num_pairs: int) -> None:
        super().__init__()
        self.num_pairs = num_pairs
        self.uniform: dict[str, Tensor] = {}
        self.logits: dict[str, tuple[Tensor, Tensor]] = {}

    def _pyro_sample(self, msg: Any) -> None:
        fn = msg["fn"]
        if msg["is_observed"] or msg["done"] or getattr(fn, "has_rsample", False):
            return
        while hasattr(fn, "base_dist"):
            fn = fn.base_dist
        if not isinstance(fn, Bernoulli) or data_frame(msg) is None:
            return
        shape = msg["fn"].batch_shape + msg["fn"].event_shape
        first, second = fn.logits.expand(shape).split(self.num_pairs)
        uniform = torch.rand_like(first)
        with torch.no_grad():
            draws = [uniform < first.sigmoid(), 1 - uniform < second.sigmoid()]
            msg["value"] = torch.cat(draws).to(first.dtype)
        msg["done"] = True
        self.uniform[msg["name"]] = uniform
        self.logits[msg["name"]] = (first, second)
