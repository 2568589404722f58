"""The shell: how far from their mean the codes of data lie, where there are many dimensions."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

Codes = dict[str, Tensor]

QUANTILES = 0.01, 0.99


@dataclass(frozen=True)
class Shell:
    """Mean and deviation of the data's unconstrained codes, and the lengths that they have."""

    mean: Codes
    deviation: Codes
    rows: dict[str, int]
    ends: tuple[float, float] = (0.0, math.inf)

    @classmethod
    def of(cls, codes: Codes, event_dims: Mapping[str, int]) -> Shell:
        """The shell of draws of the guide.

        Args:
            codes: by site, (*inner plates, n, *event), unconstrained.
            event_dims: by site.
        """
        rows = {name: -1 - event_dims[name] for name in codes}
        mean = {name: each.mean(rows[name], keepdim=True) for name, each in codes.items()}
        deviation = {name: each.std(rows[name], keepdim=True).clamp_min(1e-6) for name, each in codes.items()}
        plain = cls(mean, deviation, rows)
        length = plain.length(codes)
        low, high = length.quantile(length.new_tensor(QUANTILES)).tolist()
        return cls(mean, deviation, rows, (low, high))

    def length(self, codes: Mapping[str, Tensor]) -> Tensor:
        """(n,) in standard deviations."""
        standard = {n: ((each - self.mean[n]) / self.deviation[n]).square() for n, each in codes.items()}
        return self._over_sites(standard).sqrt()

    def along(self, codes: Mapping[str, Tensor], gradients: Codes) -> Codes:
        """Gradients without what leads out of the shell: an ascent ends where nothing else is left."""
        length = self.length(codes)
        normal = {n: (codes[n] - self.mean[n]) / self.deviation[n].square() for n in gradients}
        outward = self._over_sites({n: gradients[n] * normal[n] for n in gradients})
        square = self._over_sites({n: normal[n].square() for n in gradients})
        low, high = self.ends
        leaves = ((length > high * (1 - 1e-5)) & (outward > 0)) | (
            (length < low * (1 + 1e-5)) & (outward < 0)
        )
        share = torch.where(leaves, outward / square.clamp_min(1e-30), torch.zeros_like(square))
        return {n: gradients[n] - self._as_site(share, normal[n], n) * normal[n] for n in gradients}

    def _over_sites(self, values: Codes) -> Tensor:
        """(n,) sums over all numbers of a datum."""
        total: Any = 0.0
        for name, each in values.items():
            first = each.movedim(self.rows[name], 0)
            total = total + first.reshape(len(first), -1).sum(1)
        return total  # type: ignore[no-any-return]

    def _as_site(self, values: Tensor, like: Tensor, name: str) -> Tensor:
        """(n,) as broadcast over a site's numbers."""
        row = like.movedim(self.rows[name], 0)
        return values.reshape(-1, *[1] * (row.dim() - 1)).expand(row.shape).movedim(0, self.rows[name])

    def keep(self, codes: Mapping[str, Tensor]) -> None:
        """Bring codes back to the shell, along the line to the data's mean."""
        length = self.length(codes)
        factor = length.clamp(*self.ends) / length.clamp_min(1e-12)
        for name, each in codes.items():
            away = each - self.mean[name]
            each.copy_(self.mean[name] + away * self._as_site(factor, each, name))
