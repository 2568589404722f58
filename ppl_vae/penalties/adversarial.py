"""A discriminator that tells data from the model's pictures: what it sees is added to the loss."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from pyro import poutine
from torch import Tensor
from torch.nn.functional import softplus

from ppl_vae.core.particles import Particles
from ppl_vae.core.sites import PairError, Uncondition
from ppl_vae.distributions.improper import is_improper
from ppl_vae.estimators import Facts
from ppl_vae.kl.learned import LearnedPenalty
from ppl_vae.kl.treatment import Penalty, check_number
from ppl_vae.nets.shapes import positive_size
from ppl_vae.penalties.discriminator import Discriminator, discriminator_loss
from ppl_vae.penalties.treatment import pictures_of, refuse


@dataclass(frozen=True)
class Adversarial:
    r"""A discriminator D and its features f, learned beside the pair: the VAE-GAN. No bound on log p(x).

    .. math:: \mathrm{ELBO}
        + \frac{\mathrm{weight}}2 \, \mathbb{E} \bigl[ \log D(\hat x) + \log D(\tilde x) \bigr]
        - \frac{\mathrm{feature\_weight}}2 \, \mathbb{E}_q \bigl\| f(x) - f(\hat x) \bigr\|^2

    where x^ = E[x | z] is decoded from the guide's draws and x~ from the prior's. D takes one step of Adam
    after each of the pair's, on the same pictures,

    .. math:: \max_D \; \mathbb{E} \log D(x) + \tfrac12 \mathbb{E} \bigl[ \log(1 - D(\hat x))
        + \log(1 - D(\tilde x)) \bigr]

    and is saved with the training. As in later work, and unlike in the paper, the likelihood of the pixels
    stays in the loss, the guide learns from D too, and D's layers have spectral norm one: else its slope,
    which is all that the pair learns from, has no limit, and pictures get worse.

    Args:
        weight: of what D is to take for data.
        feature_weight: of the distance in D's features.
        channels: of D's first layer; images of a side from 8 on, divisible by 4, get convolutions, other data
            dense layers of eight times as many units.
        learning_rate: of D.

    Raises:
        ValueError: for a negative weight, a learning rate or channels that are not positive.
        PairError: in training, for a site that is no picture of a datum, whose likelihood has no mean with a
            gradient, or a model without a prior.

    Larsen, Sonderby, Larochelle and Winther, Autoencoding beyond Pixels Using a Learned Similarity Metric,
    arXiv:1512.09300; Miyato, Kataoka, Koyama and Yoshida, Spectral Normalization for Generative Adversarial
    Networks, arXiv:1802.05957.
    """

    weight: float = 1.0
    feature_weight: float = 0.0
    channels: int = 16
    learning_rate: float = 2e-4

    facts: ClassVar[Facts] = Facts("neither", paper="1512.09300")

    def __post_init__(self) -> None:
        check_number("weight", self.weight)
        check_number("feature_weight", self.feature_weight)
        positive_size("channels", self.channels)
        if not 0 < self.learning_rate < float("inf"):
            raise ValueError(f"learning_rate must be a positive number, got {self.learning_rate!r}")

    def penalty(self, site: str, example: Particles, data_size: int) -> Penalty:
        """The penalty of one observed site."""
        refuse("Adversarial", site, example, images=False)
        improper = [name for name in example.log_prior if is_improper(example.model_trace.nodes[name]["fn"])]
        if improper or example.programs is None:
            raise PairError(f"Adversarial: the model has no prior over {improper} to draw pictures from")
        return AdversarialPenalty(self, site, pictures_of(example, site)[0])


class AdversarialPenalty(LearnedPenalty):
    """What the pictures lack of data in the discriminator's eyes, and the discriminator's own training."""

    def __init__(self, treatment: Adversarial, site: str, x: Tensor) -> None:
        super().__init__(Discriminator(tuple(x.shape[2:]), treatment.channels), x, treatment.learning_rate)
        self.weight, self.feature_weight = treatment.weight, treatment.feature_weight
        self.site = site

    def forward(self, particles: Particles) -> Tensor:
        x, again = (each.flatten(0, 1) for each in pictures_of(particles, self.site))
        drawn = self.drawn(particles)
        self.remember(x, again, drawn)
        logit, features = self.judged(again)
        missed = softplus(-logit).mean() + softplus(-self.judged(drawn)[0]).mean()
        penalty: Tensor = self.weight / 2 * missed
        if self.feature_weight:
            with torch.no_grad():
                wanted = self.judged(x)[1]
            penalty = penalty + self.feature_weight / 2 * (features - wanted).square().sum(-1).mean()
        return penalty

    def drawn(self, particles: Particles) -> Tensor:
        """(B, *event): pictures of the model's own, as many as data."""
        assert particles.programs is not None  # `Adversarial.penalty` has seen to it
        model, _, args, keywords = particles.programs
        trace = poutine.trace(Uncondition()(model)).get_trace(*args, **keywords)
        mean: Any = trace.nodes[self.site]["fn"].mean
        event = trace.nodes[self.site]["fn"].event_shape
        return mean.reshape(-1, *event)  # type: ignore[no-any-return]

    def loss(self, *seen: Tensor) -> Tensor:
        return discriminator_loss(self.discriminator, *seen)
