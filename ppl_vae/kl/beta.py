"""A constant weight on the KL term."""

from __future__ import annotations

from dataclasses import dataclass

from ppl_vae.kl.treatment import KLWeight, check_weight


@dataclass(frozen=True)
class Beta(KLWeight):
    r"""A constant weight on the KL term, the beta-VAE's objective.

    .. math:: \log p(x \mid z) - \beta \, \mathrm{KL}(q \,\|\, p)

    Args:
        weight: beta.

    Raises:
        ValueError: when the weight is negative or not finite.

    Higgins et al., beta-VAE, ICLR 2017.
    """

    weight: float = 1.0

    def __post_init__(self) -> None:
        check_weight(self.weight)

    def at(self, epoch: float) -> float:
        return self.weight

    def ends(self) -> float:
        return 0.0
