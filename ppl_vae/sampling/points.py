"""AtPoints: a program whose latent sites stand at chosen points of the whole real line."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pyro.poutine.messenger import Messenger
from torch import Tensor
from torch.distributions import Transform, biject_to

from ppl_vae.core.sites import PairError
from ppl_vae.core.terms import unmasked


class AtPoints(Messenger):
    r"""Within it each chosen site has a value of its support, :math:`z = b(u)`, u any real numbers.

    The bijection b is that of the support which the model's own distribution has in this run, so that one
    that
    depends on earlier sites is right too. What a mask hides of a latent is drawn all the same, and its
    density counts here.

    Args:
        points: u by site, laid out as the program's values.
        values: instead, z by site; their u are found.

    Attributes:
        points, values: both, of all chosen sites that the run has met.
        log_volume: log |dz/du| by site, (..., *plates).
    """

    def __init__(
        self, points: Mapping[str, Tensor] | None = None, values: Mapping[str, Tensor] | None = None
    ) -> None:
        super().__init__()
        self._given, self._from_values = (points, False) if points is not None else (values or {}, True)
        self.points: dict[str, Tensor] = {}
        self.values: dict[str, Tensor] = {}
        self.log_volume: dict[str, Tensor] = {}

    def _pyro_sample(self, msg: Any) -> None:
        name = msg["name"]
        if name not in self._given or msg["done"]:
            return
        bijection = bijection_of(name, msg["fn"])
        given = self._given[name]
        point = bijection.inv(given) if self._from_values else given
        value = given if self._from_values else bijection(given)
        self.points[name], self.values[name] = point, value
        self.log_volume[name] = bijection.log_abs_det_jacobian(point, value)
        msg["value"], msg["is_observed"] = value, True
        msg["fn"], msg["mask"] = unmasked(msg["fn"]), None


def bijection_of(name: str, fn: Any) -> Transform:
    """From all real vectors to a site's support.

    Raises:
        PairError: where none is known, naming the site.
    """
    try:
        bijection: Transform = biject_to(fn.support)
    except NotImplementedError as error:
        raise PairError(
            f"site {name!r}: no map from all real vectors to the support {fn.support} of its "
            f"{type(fn).__name__} is known, and the sampler moves there: ask for method='importance' or "
            "'resample'"
        ) from error
    return bijection
