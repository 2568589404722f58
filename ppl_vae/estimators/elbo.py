"""The evidence lower bound, with a sampled or a closed-form KL term."""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar

from torch import Tensor

from ppl_vae.core.downstream import Score, in_rows, scores
from ppl_vae.core.particles import Particles
from ppl_vae.estimators.base import Estimator
from ppl_vae.estimators.facts import Facts


class ELBO(Estimator):
    r"""The evidence lower bound, every term estimated at the particles.

    .. math:: \mathcal{L}_i = \frac{1}{K} \sum_k \log w_{ki}, \qquad
        w_{ki} = \frac{p(x_i, z_{ki})}{q(z_{ki} \mid x_i)}

    A lower bound for every K. Unbiased gradients: pathwise for reparameterised sites, the score function's
    for the others, each rewarded with the terms of its own particle that are downstream of its draw, in
    its own slice of an inner plate (`core.downstream.scores` says which they are). With the same random
    numbers its bound equals `pyro.infer.Trace_ELBO`'s, and so does its gradient for a guide that is
    reparameterised or has one site.

    Kingma and Welling, Auto-Encoding Variational Bayes, arXiv:1312.6114.
    """

    handles_global_latents: ClassVar[bool] = True
    takes_kl_weight: ClassVar[bool] = True
    in_closed_form: ClassVar[bool] = False
    """Whether the reward has KL terms in closed form."""
    facts = Facts("lower", paper="1312.6114")

    def reward(self, particles: Particles) -> Tensor:
        """(K, B): what each particle contributes, before the mean over particles."""
        return particles.log_weight

    def bound(self, particles: Particles) -> Tensor:
        return self.reward(particles).mean(0)

    def surrogate(self, particles: Particles) -> Tensor:
        return self.surrogate_with(particles, 0.0)

    def scores(self, particles: Particles) -> dict[str, Score]:
        """By site without a pathwise gradient: its score and its reward, by slice of the inner plates."""
        return scores(particles, self.in_closed_form)

    def surrogate_with(
        self, particles: Particles, baseline: Tensor | float, known: Mapping[str, Score] | None = None
    ) -> Tensor:
        """(B,): the surrogate with a baseline taken from the score function's reward, without bias.

        Args:
            particles: K of them.
            baseline: a number, or by slice of all sites that are scored, (S, 1) or (S, B).
            known: the scores, where they have been computed.
        """
        reward = self.reward(particles)
        found = self.scores(particles) if known is None else known
        if found:
            log_draw, downstream = in_rows(found)
            reward = reward + (log_draw * (downstream - baseline)).sum(1)
            for site in particles.log_guide:
                reward = reward + self._own_score(particles, site)
        return reward.mean(0)

    def _own_score(self, particles: Particles, site: str) -> Tensor | float:
        """What takes the gradient of -log q out of the reward: zero in expectation, not in variance."""
        if site not in particles.non_reparameterised:
            return 0.0
        term = particles.log_guide[site]  # with the scale and the mask that it has in the reward
        return particles.kl_weight.get(site, 1.0) * (term - term.detach())

    def global_reward(self, particles: Particles) -> Tensor | None:
        """(K,): what the latents outside the `data` plate contribute; None where there are none."""
        return particles.global_log_weight

    def global_bound(self, particles: Particles) -> Tensor | None:
        reward = self.global_reward(particles)
        return None if reward is None else reward.mean(0)

    def global_surrogate(self, particles: Particles) -> Tensor | None:
        reward = self.global_reward(particles)
        if reward is None or particles.global_score is None:
            return self.global_bound(particles)
        # a global draw moves every datum's term, so all of them are its reward
        everything = particles.scale * self.reward(particles).sum(-1) + reward
        return (reward + particles.global_score * everything.detach()).mean(0)


class MeanFieldELBO(ELBO):
    r"""The evidence lower bound with KL(q || p) in closed form for every site that has one.

    .. math:: \mathcal{L}_i = \frac{1}{K} \sum_k \log p(x_i \mid z_{ki})
        - \sum_s \mathrm{KL}\bigl(q(z^s \mid x_i) \,\|\, p(z^s)\bigr)

    Sites without a closed form in `torch.distributions.kl` keep the sampled term. Right when no
    parent of a site in the model is a descendant of it in the guide, which holds when both programs
    draw their sites in the same order. With the same random numbers it equals
    `pyro.infer.TraceMeanField_ELBO`. A scale or mask on one program only is honoured (Pyro ignores
    the model's).

    Kingma and Welling, Auto-Encoding Variational Bayes, arXiv:1312.6114, appendix B.
    """

    in_closed_form: ClassVar[bool] = True
    needs_density: ClassVar[bool] = False

    def reward(self, particles: Particles) -> Tensor:
        reward = particles.reconstruction
        for site in particles.latent_sites:
            reward = reward - particles.weighted_kl(site)
        return reward

    def _own_score(self, particles: Particles, site: str) -> Tensor | float:
        return 0.0 if particles.kl_closed_form(site) is not None else super()._own_score(particles, site)

    def global_reward(self, particles: Particles) -> Tensor | None:
        terms = [-particles.weighted_kl(site) for site in particles.global_sites]
        return sum(terms[1:], terms[0]) if terms else None
