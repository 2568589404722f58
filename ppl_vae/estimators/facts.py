"""Facts: what is known of an estimator, for the linter, the contract test and the documentation to read."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Side = Literal["lower", "upper", "neither"]
Sites = Literal["any", "reparameterised", "bernoulli"]


@dataclass(frozen=True)
class Facts:
    """What theory says of an estimator; `testing.check_estimator` holds it to this.

    Attributes:
        bound: the side of log p(x) on which the bound's expectation lies, for every number of particles.
        limit: the same as the number of particles grows; "evidence" where it becomes exact.
        unbiased_model, unbiased_guide: whether the gradient of the parameters of that program is
            unbiased for the gradient of the bound's expectation.
        guide_follows: what the guide's gradient is of, where it is not the bound.
        needs: the guide's sites that it can treat.
        zero_variance: whether the guide's gradient is exactly zero at the exact posterior.
        paper: the arXiv number.
    """

    bound: Side
    limit: Literal["evidence", "lower", "upper"]
    unbiased_model: bool = True
    unbiased_guide: bool = True
    guide_follows: str = "the bound"
    needs: Sites = "any"
    zero_variance: bool = False
    paper: str = ""

    @property
    def needs_reparameterised(self) -> bool:
        """Whether every latent site of the guide must be reparameterised."""
        return self.needs == "reparameterised"
