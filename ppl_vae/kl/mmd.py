"""The maximum mean discrepancy between the aggregate posterior and the prior: InfoVAE."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from torch import Tensor

from ppl_vae.core.particles import Particles
from ppl_vae.core.sites import PairError
from ppl_vae.kl.aggregate import draws_of, prior_draws, refuse
from ppl_vae.kl.divergence import refuse_summed_prior
from ppl_vae.kl.treatment import KLPenalty, Penalty, check_number

Kernel = Literal["gaussian", "inverse multiquadric"]
KERNELS: tuple[Kernel, ...] = ("gaussian", "inverse multiquadric")
Estimate = Literal["unbiased", "V-statistic"]
ESTIMATES: tuple[Estimate, ...] = ("unbiased", "V-statistic")


@dataclass(frozen=True)
class MMD(KLPenalty):
    r"""The InfoVAE: less of the KL term, and a discrepancy between aggregate posterior and prior instead.

    .. math:: \log p(x \mid z) - (1 - \alpha) \, \mathrm{KL}(q \,\|\, p)
        - (\alpha + \lambda - 1) \, \mathrm{MMD}^2\bigl(q(z), p(z)\bigr)

    .. math:: \mathrm{MMD}^2 = \mathbb{E}[k(z, z')] - 2 \, \mathbb{E}[k(z, u)] + \mathbb{E}[k(u, u')], \qquad
        z, z' \sim q(z), \quad u, u' \sim p(z)

    The guide's draws of the batch are held against as many of the prior. With h = 2 d s^2, where s is
    the bandwidth, the kernel is `exp(-|z - u|^2 / h)`, or `h / (h + |z - u|^2)`.

    Args:
        weight: lambda.
        alpha: how much of the KL term is left out; 1 leaves out all of it (the MMD-VAE).
        kernel: "gaussian" or "inverse multiquadric".
        bandwidth: s, about the prior's standard deviation.
        estimate: "unbiased" leaves the pairs of a draw with itself out; it may be negative. The
            "V-statistic" keeps them; it is never negative, and above zero in expectation.

    Raises:
        ValueError: for an alpha above 1, a weight below 1 - alpha, a bandwidth that is not positive,
            an unknown kernel or estimate.
        PairError: in training, for a site that is not reparameterised or in no plate but `data`, or whose
            prior gives no draws of the same shape. The prior is the model's at the guide's draws of
            the sites before it.

    Zhao, Song and Ermon, InfoVAE, arXiv:1706.02262; the inverse multiquadric kernel is that of
    Tolstikhin et al., Wasserstein Auto-Encoders, arXiv:1711.01558.
    """

    weight: float
    alpha: float = 0.0
    kernel: Kernel = "gaussian"
    bandwidth: float = 1.0
    estimate: Estimate = "unbiased"

    def __post_init__(self) -> None:
        if not self.alpha <= 1:
            raise ValueError(
                f"alpha must be at most 1, since the KL term has the weight 1 - alpha, got {self.alpha}"
            )
        check_number("weight", self.weight, above=1 - self.alpha)
        if not 0 < self.bandwidth < float("inf"):
            raise ValueError(f"bandwidth must be a positive number, got {self.bandwidth!r}")
        if self.kernel not in KERNELS:
            raise ValueError(f"kernel must be one of {list(KERNELS)}, got {self.kernel!r}")
        if self.estimate not in ESTIMATES:
            raise ValueError(f"estimate must be one of {list(ESTIMATES)}, got {self.estimate!r}")

    def at(self, epoch: float) -> float:
        return 1.0 - self.alpha

    def ends(self) -> float:
        return 0.0

    def penalty(self, site: str, example: Particles, data_size: int) -> Penalty:
        refuse("MMD", site, example, vector=False)
        refuse_summed_prior("MMD", site, example)
        penalty = MMDPenalty(self, site)
        guide_shape, prior_shape = (
            list(d.shape) for d in (draws_of(example, site), prior_draws(example, site))
        )
        if guide_shape != prior_shape:
            raise PairError(
                f"MMD: the guide's draws of site {site!r} have shape {guide_shape} and the prior's "
                f"{prior_shape}"
            )
        return penalty


class MMDPenalty(Penalty):
    """(alpha + lambda - 1) times the squared discrepancy."""

    def __init__(self, treatment: MMD, site: str) -> None:
        super().__init__()
        self.treatment = treatment
        self.site = site

    def forward(self, particles: Particles) -> Tensor:
        z, u = draws_of(particles, self.site), prior_draws(particles, self.site)
        squared = mmd_squared(
            z.reshape(*z.shape[:2], -1),
            u.reshape(*u.shape[:2], -1),
            self.treatment.kernel,
            self.treatment.bandwidth,
            self.treatment.estimate,
        )
        return (self.treatment.alpha + self.treatment.weight - 1) * squared.mean()


def mmd_squared(
    z: Tensor,
    u: Tensor,
    kernel: Kernel = "gaussian",
    bandwidth: float = 1.0,
    estimate: Estimate = "unbiased",
) -> Tensor:
    """(*batch,): the squared maximum mean discrepancy between draws z (*batch, M, d) and u (*batch, L, d).

    With fewer than two draws on a side the unbiased estimate does not exist, and is 0.

    Gretton et al., A Kernel Two-Sample Test, JMLR 2012.
    """
    if estimate == "unbiased" and min(z.shape[-2], u.shape[-2]) < 2:
        return z.sum((-2, -1)) * 0.0
    h = 2 * z.shape[-1] * bandwidth**2
    across = _kernel(z, u, kernel, h).mean((-2, -1))
    own = [_kernel(draws, draws, kernel, h).sum((-2, -1)) for draws in (z, u)]
    sizes = [draws.shape[-2] for draws in (z, u)]
    if estimate == "unbiased":
        # a draw with itself has the kernel's value 1
        within = [(total - size) / (size * (size - 1)) for total, size in zip(own, sizes, strict=True)]
    else:
        within = [total / size**2 for total, size in zip(own, sizes, strict=True)]
    return within[0] + within[1] - 2 * across


def _kernel(first: Tensor, second: Tensor, kernel: Kernel, h: float) -> Tensor:
    # differences and not norms and products: exact zeros for a draw with itself, and a smooth gradient
    squared = (first.unsqueeze(-2) - second.unsqueeze(-3)).square().sum(-1)
    return (-squared / h).exp() if kernel == "gaussian" else h / (h + squared)
