"""The adversarial autoencoder: an adversary tells codes from the prior's draws, and the guide deceives it."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor
from torch.nn.functional import softplus

from ppl_vae.core.particles import Particles
from ppl_vae.core.sites import PairError
from ppl_vae.kl.aggregate import draws_of, prior_draws, refuse
from ppl_vae.kl.divergence import refuse_summed_prior
from ppl_vae.kl.learned import LearnedPenalty
from ppl_vae.kl.treatment import KLPenalty, Penalty, check_number
from ppl_vae.nets import MLP


@dataclass(frozen=True)
class AdversarialPrior(KLPenalty):
    r"""An adversary in the place of the KL term, who tells the codes of all data from the prior's draws.

    .. math:: \log p(x \mid z) - (1 - \alpha) \, \mathrm{KL}(q \,\|\, p)
        - \lambda \, \mathbb{E}_{q(z)}\bigl[-\log D(z)\bigr], \qquad
        \max_D \; \tfrac12 \mathbb{E}_{p(z)} \log D + \tfrac12 \mathbb{E}_{q(z)} \log (1 - D)

    D is how likely a code is to come from the prior, by a multilayer perceptron. At its best the adversary's
    loss is log 2 less the Jensen-Shannon divergence of the aggregate posterior and the prior; the codes of
    all data are then the prior's as a whole, and a datum's own may be a point: with `alpha=1` under
    `guides.Deterministic` that is the adversarial autoencoder. It takes one step of Adam after each of the
    pair's, on the same draws, and is saved with the training. Big batches serve it.

    Args:
        weight: lambda.
        alpha: how much of the KL term is left out; 1 leaves out all of it.
        hidden: widths of the adversary's layers.
        learning_rate: the adversary's.

    Raises:
        ValueError: for a negative weight, an alpha outside [0, 1], or a learning rate that is not positive.
        PairError: in training, for a site that is not a reparameterised vector in no plate but `data`, or
            whose prior is learned, which nothing would train, or gives no draws of the same shape.

    Makhzani, Shlens, Jaitly, Goodfellow and Frey, Adversarial Autoencoders, arXiv:1511.05644.
    """

    weight: float = 1.0
    alpha: float = 1.0
    hidden: tuple[int, ...] = (256, 256)
    learning_rate: float = 2e-4

    def __post_init__(self) -> None:
        check_number("weight", self.weight)
        check_number("alpha", self.alpha)
        if self.alpha > 1:
            raise ValueError(f"alpha must be in [0, 1], got {self.alpha!r}")
        if not 0 < self.learning_rate < float("inf"):
            raise ValueError(f"learning_rate must be a positive number, got {self.learning_rate!r}")

    def at(self, epoch: float) -> float:
        return 1.0 - self.alpha

    def ends(self) -> float:
        return 0.0

    def penalty(self, site: str, example: Particles, data_size: int) -> Penalty:
        refuse("AdversarialPrior", site, example, vector=False)
        refuse_summed_prior("AdversarialPrior", site, example)
        draws, prior = draws_of(example, site), prior_draws(example, site)
        if draws.dim() != 3 or draws.shape != prior.shape:
            raise PairError(
                f"AdversarialPrior: the guide's draws of site {site!r} and the prior's are to be a vector "
                f"for each particle and datum, and have shapes {list(draws.shape)} and {list(prior.shape)}"
            )
        if prior.requires_grad:
            raise PairError(
                f"AdversarialPrior: the prior of site {site!r} is learned, and nothing would train it: take "
                "a fixed one, such as priors.StandardNormal, or kl.MMD, which trains both"
            )
        return AdversarialPriorPenalty(self, site, draws)


class AdversarialPriorPenalty(LearnedPenalty):
    """The weight times -log D of the guide's draws; the net gives the logit of 1 - D."""

    def __init__(self, treatment: AdversarialPrior, site: str, draws: Tensor) -> None:
        net = MLP(draws.shape[-1], tuple(treatment.hidden), 1, activation="leaky_relu")
        super().__init__(net, draws, treatment.learning_rate)
        self.weight = treatment.weight
        self.site = site

    def forward(self, particles: Particles) -> Tensor:
        draws = draws_of(particles, self.site)
        self.remember(draws, prior_draws(particles, self.site))
        loss: Tensor = softplus(self.judged(draws)).mean()
        return self.weight * loss

    def loss(self, *seen: Tensor) -> Tensor:
        codes, prior = seen
        losses = softplus(-self.discriminator(codes)), softplus(self.discriminator(prior))
        return (losses[0].mean() + losses[1].mean()) / 2
