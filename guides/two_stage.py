"""The guide of a pair whose prior has latents of its own."""

from __future__ import annotations

from typing import Any, Protocol, cast

from pyro.poutine.messenger import Messenger
from torch import Tensor, nn

from ppl_vae.core.arguments import arguments_of


class WithGuide(Protocol):
    """A prior that draws latents of its own, and knows a guide for them given the code."""

    def guide(self, z: Tensor) -> Tensor:
        """Draw them, within the plates of the code."""


class TwoStage(nn.Module):
    r"""Any guide for z, and the prior's own guide for what stands above it, given z.

    .. math:: q(z, u \mid x) = q(z \mid x) \, q(u \mid z)

    Args:
        guide: draws z.
        prior: the model's own prior, `priors.TwoStage`: the same module in both programs.
        site: the site of z.

    Raises:
        ValueError: from `forward`, for a guide without the site.

    Dai and Wipf, Diagnosing and Enhancing VAE Models, arXiv:1903.05789.
    """

    def __init__(self, guide: nn.Module, prior: nn.Module, site: str = "z") -> None:
        super().__init__()
        self.guide = guide
        self.prior = cast(WithGuide, prior)
        self.site = site

    @property
    def argument_names(self) -> tuple[str, ...] | None:
        """Those of the program inside."""
        return arguments_of(self.guide)

    def forward(self, *batch: Any, **kwargs: Any) -> Any:
        """Draw z, and then u in the same plates; what the guide of z gives comes back."""
        above = _Above(self.prior, self.site)
        with above:
            result = self.guide(*batch, **kwargs)
        if not above.met:
            raise ValueError(f"guides.TwoStage: the guide has no site {self.site!r}")
        return result


class _Above(Messenger):
    """Draws what stands above a site as soon as the site is drawn, while its plates are open."""

    def __init__(self, prior: WithGuide, site: str) -> None:
        super().__init__()
        self.prior, self.site, self.met = prior, site, False

    def _pyro_post_sample(self, msg: Any) -> None:
        if msg["name"] == self.site:
            self.met = True
            self.prior.guide(msg["value"])
