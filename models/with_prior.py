"""A model with another prior over one of its latent sites."""

from __future__ import annotations

from typing import Any

import torch
from pyro.poutine.messenger import Messenger
from torch import nn

from ppl_vae.core.arguments import arguments_of
from ppl_vae.priors.contract import Prior


class WithPrior(nn.Module):
    r"""Any model with another prior over one of its latent sites; everything else is as it was.

    .. math:: p'(x, z) = \mathrm{prior}(z) \, p(x \mid z)

    What `pv.refit_prior` makes. The site draws from the given prior, whatever the model's statement says, so
    that its old prior plays no part any more, nor do latents that stood above it and nothing else hangs on.
    A prior that draws latents of its own, `priors.TwoStage`, has them in the same plate.

    Args:
        model: a Pyro program.
        prior: a `priors.Prior` over one datum's latent, of the site's event shape.
        site: the latent site.

    Raises:
        ValueError: from `forward`, for a prior of another event shape, and a model without the site.

    >>> import torch
    >>> from ppl_vae import Pair, guides, models, nets, priors
    >>> model = WithPrior(models.LinearGaussian(2, 5), priors.MixtureOfGaussians(2, 4))
    >>> pair = Pair(model, guides.MeanField(nets.MLPEncoder((5,), 2)), example=(torch.zeros(1, 5),))
    """

    def __init__(self, model: nn.Module, prior: nn.Module, site: str = "z") -> None:
        super().__init__()
        self.model = model
        self.prior: Prior = prior
        self.site = site

    @property
    def argument_names(self) -> tuple[str, ...] | None:
        """Those of the program inside."""
        return arguments_of(self.model)

    def forward(self, *batch: Any, **kwargs: Any) -> Any:
        """Run the model on a batch."""
        other = _OtherPrior(self.prior, self.site)
        with other:
            result = self.model(*batch, **kwargs)
        if not other.met:
            raise ValueError(f"WithPrior: the model has no latent site {self.site!r} to put a prior over")
        return result


class _OtherPrior(Messenger):
    def __init__(self, prior: Prior, site: str) -> None:
        super().__init__()
        self.prior, self.site, self.met = prior, site, False

    def _pyro_sample(self, msg: Any) -> None:
        if msg["name"] != self.site:
            return
        fn = self.prior()
        if fn.event_shape != msg["fn"].event_shape:
            raise ValueError(
                f"WithPrior: site {self.site!r} has the event shape {list(msg['fn'].event_shape)}, and the "
                f"prior {list(fn.event_shape)}"
            )
        # the plates inside have given the model's own prior its batch shape already; a prior with latents of
        # its own has that of all plates
        shape = torch.broadcast_shapes(fn.batch_shape, msg["fn"].batch_shape)
        msg["fn"], self.met = fn.expand(shape), True
