"""Slice trials: runs of a pair's programs with the latents held, but for some slices of one of them."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any

import torch
from pyro import poutine
from pyro.poutine.messenger import Messenger
from pyro.poutine.util import prune_subsample_sites
from torch import Tensor

from ppl_vae.core.finite import other_values
from ppl_vae.core.plates import inner_plates
from ppl_vae.core.sites import Site, latent_names
from ppl_vae.core.terms import draw_log_prob

_TOLERANCE = 1e-5

Sites = dict[tuple[str, str], Site]


class SliceTrials:
    """Runs of the two programs with their latents held, but for some slices of one site."""

    def __init__(
        self, roles: Mapping[str, Callable[..., Any]], args: tuple[Any, ...], kwargs: Mapping[str, Any]
    ) -> None:
        self.roles, self.args, self.kwargs = roles, args, kwargs
        self.values: dict[str, Tensor] = {}
        self.sites: Sites = {}
        # the guide's draws first, so that the model is run on them
        self.sites = self._run({})
        self.latents = {name: site for (_, name), site in reversed(self.sites.items()) if name in self.values}
        self.base = {key: _density(site) for key, site in self._run(self.values).items()}

    def _run(self, values: Mapping[str, Tensor]) -> Sites:
        found: Sites = {}
        for role, program in self.roles.items():
            torch.manual_seed(0)
            trace = poutine.trace(_Held({**self.values, **values})(program)).get_trace(
                *self.args, **self.kwargs
            )
            trace = prune_subsample_sites(trace)
            for name in latent_names(trace):
                self.values.setdefault(name, trace.nodes[name]["value"])
            found |= {(role, n): site for n, site in trace.nodes.items() if site["type"] == "sample"}
        return found

    def trials(self) -> Iterator[tuple[str, str, Tensor, Tensor]]:
        """(site, plate, which of its slices are held, the site's values with the others changed)."""
        for name, site in self.latents.items():
            for plate, (dim, size) in inner_plates(site).items():
                number, some = torch.arange(size), torch.rand(size) < 0.5
                for trial, held in enumerate((number == 0, number == size - 1, some, number < 0)):
                    torch.manual_seed(trial + 1)  # other draws than the runs', which have the same seed each
                    other = other_values(site["fn"], self.values[name])
                    shape = [size if d == dim else 1 for d in range(-len(site["fn"].batch_shape), 0)]
                    mask = held.to(other.device).view(*shape, *[1] * site["fn"].event_dim)
                    yield name, plate, held, torch.where(mask, self.values[name], other)

    def moved(
        self, site: str, plate: str, held: Tensor, values: Tensor
    ) -> Iterator[tuple[tuple[str, str], bool]]:
        """The terms that changed where they should not have, each with whether it stands in the plate."""
        for key, term in self._run({site: values}).items():
            if key not in self.base:
                continue
            plates = inner_plates(term)
            now, before = _density(term), self.base[key]
            if plate in plates:
                dim = plates[plate][0]
                now, before = (each.movedim(dim, 0)[held.to(each.device)] for each in (now, before))
            if now.shape != before.shape or not torch.allclose(
                now, before, rtol=_TOLERANCE, atol=_TOLERANCE, equal_nan=True
            ):
                yield key, plate in plates


class _Held(Messenger):
    """Latent sites at given values."""

    def __init__(self, values: Mapping[str, Tensor]) -> None:
        super().__init__()
        self.values = values

    def _pyro_sample(self, msg: Any) -> None:
        if msg["name"] in self.values and not msg["is_observed"]:
            msg["value"], msg["done"] = self.values[msg["name"]], True


def _density(site: Site) -> Tensor:
    density = torch.as_tensor(draw_log_prob(site))
    return density.expand(torch.broadcast_shapes(density.shape, site["fn"].batch_shape))
