"""Facts: what is known of an estimator, for the linter, the contract test and the documentation to read."""

from __future__ import annotations

import re
from dataclasses import KW_ONLY, dataclass
from typing import Literal, get_args

Side = Literal["lower", "upper", "neither"]
Sites = Literal["any", "reparameterised", "bernoulli", "bits or one-hot"]

_PAPER = re.compile(r"[0-9]{2}(0[1-9]|1[0-2])\.[0-9]{4,5}")  # year and month first


@dataclass(frozen=True)
class Facts:
    """What theory says of an estimator; `testing.check_estimator` holds it to this.

    What is said must hold. What is not said ("neither", False) is no promise, and nothing checks it.

    Attributes:
        bound: the side of log p(x) on which the bound's expectation lies, for every number of particles.
        unbiased_model, unbiased_guide: whether the gradient of the parameters of that program is
            unbiased for the gradient of the bound's expectation.
        guide_follows: what the guide's gradient is of, where it is not the bound: text for the reader.
        needs: the guide's sites that it can treat.
        zero_variance: whether the guide's gradient is exactly zero at the exact posterior.
        paper: the arXiv number, such as "1312.6114"; empty where there is none.

    Raises:
        ValueError: for a value that is none of those, or a guide that is unbiased for another objective.
    """

    bound: Side
    _: KW_ONLY
    unbiased_model: bool = True
    unbiased_guide: bool = True
    guide_follows: str = "the bound"
    needs: Sites = "any"
    zero_variance: bool = False
    paper: str = ""

    def __post_init__(self) -> None:
        for name, known in (("bound", get_args(Side)), ("needs", get_args(Sites))):
            if getattr(self, name) not in known:
                raise ValueError(f"Facts: {name} must be one of {list(known)}, got {getattr(self, name)!r}")
        for name in ("unbiased_model", "unbiased_guide", "zero_variance"):
            if not isinstance(getattr(self, name), bool):
                raise ValueError(f"Facts: {name} must be True or False, got {getattr(self, name)!r}")
        if not isinstance(self.paper, str) or (self.paper and not _PAPER.fullmatch(self.paper)):
            raise ValueError(f"Facts: paper must be an arXiv number such as '1312.6114', got {self.paper!r}")
        if not isinstance(self.guide_follows, str) or not self.guide_follows:
            raise ValueError(f"Facts: guide_follows must be a text, got {self.guide_follows!r}")
        if self.unbiased_guide and self.guide_follows != "the bound":
            raise ValueError(
                f"Facts: a guide that follows {self.guide_follows!r} is not unbiased for the bound: say "
                "unbiased_guide=False"
            )

    @property
    def needs_reparameterised(self) -> bool:
        """Whether every latent site of the guide must be reparameterised."""
        return self.needs == "reparameterised"
