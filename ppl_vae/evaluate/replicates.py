"""Data beside data of the same kind that the pair makes: what criticism of a model compares."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, Literal

import torch
from torch import Tensor

from ppl_vae.core.checks import check_count
from ppl_vae.core.pair import Pair
from ppl_vae.core.sites import data_frame
from ppl_vae.evaluate.batches import to_data
from ppl_vae.evaluate.some_rows import batches_of, chosen_rows
from ppl_vae.queries.handlers import run, sample_sites
from ppl_vae.queries.questions import reconstruct, sample
from ppl_vae.queries.site_tensors import core_shape, counted, data_first
from ppl_vae.queries.undrawn import refuse_factors

Latents = Literal["prior", "guide"]
Kind = Literal["draw", "mean"]


class Replicates:
    """Some data of a pair, and as many draws of the model in their place, again and again.

    A draw is made for each datum, whose own inputs a conditional model is told, and what is missing (NaN) or
    masked in the datum is missing in its draw. Use it within `isolation.questioning`.

    Args:
        pair: the pair.
        data: what `evaluate.bounds` takes.
        num_data: of the data, drawn at random; all for None.
        latents: draw the latents from the "prior", or from the "guide" at the data.
        sites: the observed sites; all by default.
        kind: of a draw's values, or of the likelihood's means.

    Attributes:
        chosen: (N,) bool, which of the data.
        batch: these data as the programs take them.
        observed: by observed site the data there, (n, *inner plates, *event), NaN where missing or masked.

    Raises:
        ValueError: other `latents`, an observed site that there is not, no observed site.
    """

    def __init__(
        self,
        pair: Pair,
        data: Any,
        num_data: int | None,
        latents: Latents,
        sites: Iterable[str] = (),
        kind: Kind = "draw",
    ) -> None:
        if kind not in ("draw", "mean"):
            raise ValueError(f"kind must be 'draw' or 'mean', got {kind!r}")
        if latents not in ("prior", "guide"):
            raise ValueError(f"latents must be drawn from the 'prior' or the 'guide', got {latents!r}")
        self.pair, self.latents, self.kind = pair, latents, kind
        if num_data is not None:
            check_count("num_data", num_data)
        source = to_data(data, pair)
        self.chosen = chosen_rows(len(source), num_data)
        parts = batches_of(source, self.chosen)
        self.batch = tuple(torch.cat(each) for each in zip(*parts))
        trace = run(pair.model, self.batch)
        refuse_factors(trace)
        found = {
            name: site
            for name, site in sample_sites(trace).items()
            if site["is_observed"] and data_frame(site) is not None
        }
        chosen = list(sites) or list(found)
        if unknown := [name for name in chosen if name not in found]:
            raise ValueError(
                f"there is no observed site {unknown[0]!r}: the observed sites are {list(found)}"
            )
        if not chosen:
            raise ValueError("the model observes nothing, so there is nothing to compare")
        values = {name: data_first(found[name]["value"], found[name]) for name in chosen}
        self._known = {name: counted(found[name]) & ~value.isnan() for name, value in values.items()}
        self.observed = {name: _where(value, self._known[name]) for name, value in values.items()}
        self._dims = {name: core_shape(found[name]).index(None) for name in chosen}

    def the_only(self) -> tuple[str, Tensor]:
        """The name of the only observed site, and the data there.

        Raises:
            ValueError: for several.
        """
        if len(self.observed) != 1:
            raise ValueError(f"this pair has the observed sites {list(self.observed)}: say which, site=...")
        return next(iter(self.observed.items()))

    def __len__(self) -> int:
        return len(self.batch[0])

    def draw(self) -> dict[str, Tensor]:
        """One draw for each datum, by observed site, laid out as `observed`."""
        if self.latents == "prior":
            draws = sample(self.pair, len(self), like=self.batch)
        else:
            draws = reconstruct(self.pair, *self.batch)
        drawn = draws.values if self.kind == "draw" else draws.means
        made = {name: drawn[name].movedim(dim, 0) for name, dim in self._dims.items()}
        return {name: _where(values, self._known[name]) for name, values in made.items()}


def _where(values: Tensor, known: Tensor) -> Tensor:
    """The values, NaN where they are missing or masked."""
    if bool(known.all()):
        return values
    values = values if values.is_floating_point() else values.double()
    return values.where(known, torch.full_like(values, torch.nan))
