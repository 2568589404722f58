"""Control variates at relaxed draws, for guides with bits or one-hot vectors: REBAR."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor, nn

from ppl_vae.core.particles import Particles
from ppl_vae.core.sites import Program
from ppl_vae.estimators.apart import parameters_of
from ppl_vae.estimators.elbo import ELBO
from ppl_vae.estimators.facts import Facts
from ppl_vae.estimators.relaxed_runs import NoisyParticles, draw_noisily, relaxed_run, require_numbers


class _Learned(nn.Module):
    """What a control variate has beside its network: the temperature, and its strength, which is learned."""

    temperature: Tensor

    def __init__(self, temperature: float) -> None:
        super().__init__()
        self.register_buffer("temperature", torch.tensor(float(temperature)))
        self.strength = nn.Parameter(torch.tensor(1.0))


class REBAR(ELBO):
    r"""The ELBO with the pair's own log-weight at relaxed draws as the control variate of its score function.

    With l the logits of a site, z = l + noise, its draw b = H(z), a relaxed draw s(z) = sigma(z / tau) or
    softmax(z / tau), and z' the same z as a function of l given b,

    .. math:: \nabla_l := \bigl(f(b) - c(z)\bigr) \nabla_l \log q(b) + \nabla_l c(z) - \nabla_l c(z'), \qquad
        c(z) = \eta \, f\bigl(s(z)\bigr), \quad f = \log w

    A lower bound, and unbiased gradients, for every tau and eta. eta is trained along, to less variance. Both
    programs run once more for each such site, their densities continued in a straight line between the
    values; sites of the guide before it keep their draws then, and those after it are drawn anew, relaxed, so
    layers that hang on each other may be. Reparameterised sites keep their pathwise gradient.

    Args:
        num_particles: K.
        temperature: tau; `auxiliary.temperature` is a 0-d tensor, which may be changed in place.

    Raises:
        ValueError: for a temperature that is not positive.
        PairError: from the losses, for other discrete sites, and for programs that do not compute with the
            values of the site as numbers.

    Tucker et al., REBAR: Low-variance, Unbiased Gradient Estimates for Discrete Latent Variable Models,
    arXiv:1703.07370, where the temperature is trained too.
    """

    facts = Facts("lower", needs="bits or one-hot", paper="1703.07370")

    def __init__(self, num_particles: int = 1, temperature: float = 0.5) -> None:
        super().__init__(num_particles)
        if not 0 < temperature < math.inf:
            raise ValueError(f"temperature must be a positive number, got {temperature!r}")
        self.temperature = temperature
        self.auxiliary = self.learned = _Learned(temperature)

    def draw(self, model: Program, guide: Program, *args: Any, **kwargs: Any) -> Particles:
        return draw_noisily(model, guide, args, kwargs, self.num_particles, type(self).__name__)

    def prepare(self, model: Program, guide: Program, *args: Any, **kwargs: Any) -> None:
        particles = draw_noisily(model, guide, args, kwargs, self.num_particles, type(self).__name__)
        require_numbers(particles, self._temperature(particles.reconstruction))

    def surrogate(self, particles: NoisyParticles) -> Tensor:  # type: ignore[override]
        reward = self.reward(particles)
        kept = reward
        for site in particles.log_guide:
            kept = kept + self._own_score(particles, site)
        surrogate = kept.mean(0)
        if not particles.noisy or not torch.is_grad_enabled():
            return surrogate
        require_numbers(particles, self._temperature(reward))
        held = parameters_of(particles)  # the pair's learn the bound alone, where a control has some too
        learned = [p for p in self.auxiliary.parameters() if p.requires_grad and id(p) not in held]
        variance = reward.new_zeros(())
        for site, noisy in particles.noisy.items():
            gradient = self._gradient(particles, site, reward.detach())
            moved = particles.rows(gradient.detach() * noisy.logits, site).sum(-1)
            surrogate = surrogate + moved.mean(0)
            variance = variance + gradient.square().sum()
        if learned and variance.requires_grad:
            # of the logarithm, so that the step does not hang on the size of the data
            slopes = torch.autograd.grad((variance + 1e-30).log(), learned, allow_unused=True)
            for parameter, slope in zip(learned, slopes, strict=True):
                if slope is not None:
                    surrogate = surrogate - (slope.detach() * parameter).sum()
        return surrogate

    def _gradient(self, particles: NoisyParticles, site: str, reward: Tensor) -> Tensor:
        """The gradient by a site's logits, with the gradient of what is learned."""
        noisy = particles.noisy[site]
        control, slope = self._control(particles, site)
        left = particles.spread(reward - control, site)
        return left * noisy.score + slope - noisy.moved(slope)

    def _temperature(self, like: Tensor) -> Tensor:
        return self.learned.temperature.to(like)

    def _control(self, particles: NoisyParticles, site: str) -> tuple[Tensor, Tensor]:
        """c, (K, B), and its slope by z, with the gradient of what is learned."""
        z, again = relaxed_run(particles, site, self._temperature(particles.noisy[site].z))
        value = self.reward(again.with_kl_weight(particles.kl_weight))
        (slope,) = torch.autograd.grad(value.sum(), z)
        strength = self.learned.strength.to(value)
        return strength * value.detach(), strength * slope

    def __repr__(self) -> str:
        return f"{type(self).__name__}(num_particles={self.num_particles}, temperature={self.temperature})"
