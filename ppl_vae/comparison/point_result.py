"""AtPoint: the result of a comparison at one set of parameters."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import xarray
from matplotlib.axes import Axes

from ppl_vae.comparison import plots
from ppl_vae.comparison.slopes import Slope, fit_slope
from ppl_vae.comparison.storage import load_dataset, save_dataset
from ppl_vae.evaluate.lines import plus_minus

QUANTITIES = ("snr", "signal", "variance")


@dataclass(frozen=True)
class Cell:
    """One estimator at one K: its numbers, those of each program's parameters, the bias's reference."""

    estimator: str
    num_particles: int
    values: Mapping[str, float]
    parts: Mapping[str, Mapping[str, float]]
    reference: str
    loop: str


@dataclass(frozen=True, eq=False)
class AtPoint:
    """What `comparison.at_point` found.

    Attributes:
        dataset: by `estimator` and `K`: `bound`, `gap` to log p(x), both nats per datum, `seconds` and
            `memory` (bytes) of one gradient as in training; by `part` (model, guide) too: `variance`,
            `signal`, `snr`, `snr_absolute`, `bias`, `distance`, see `at_point`. `*_standard_error` of
            these; `*_sigmas` says how many standard errors a square is above zero. Its attributes are
            the settings, the evidence and where the references come from.
    """

    dataset: xarray.Dataset

    @classmethod
    def of(cls, cells: Sequence[Cell], settings: Mapping[str, Any]) -> AtPoint:
        """A result from its cells."""
        names = list(dict.fromkeys(cell.estimator for cell in cells))
        ladder = sorted({cell.num_particles for cell in cells})
        parts = [part for part in ("model", "guide") if any(part in cell.parts for cell in cells)]
        whole: dict[str, np.ndarray] = {}
        apart: dict[str, np.ndarray] = {}
        for cell in cells:
            row, column = names.index(cell.estimator), ladder.index(cell.num_particles)
            for name, value in cell.values.items():
                whole.setdefault(name, np.full((len(names), len(ladder)), np.nan))[row, column] = value
            for part, values in cell.parts.items():
                for name, value in values.items():
                    blank = np.full((len(names), len(ladder), len(parts)), np.nan)
                    apart.setdefault(name, blank)[row, column, parts.index(part)] = value
        dims = ["estimator", "K"]
        dataset = xarray.Dataset(
            {name: (dims, value) for name, value in whole.items()}
            | {name: ([*dims, "part"], value) for name, value in apart.items()},
            coords={"estimator": names, "K": ladder, "part": parts},
            attrs={
                **settings,
                "references": json.dumps(
                    {f"{c.estimator}, K = {c.num_particles}": c.reference for c in cells}
                ),
                "loops": json.dumps({c.estimator: c.loop for c in cells if c.loop}),
            },
        )
        return cls(dataset)

    @property
    def table(self) -> pd.DataFrame:
        """One row for each estimator and K, by K; the parts' columns end in `_model` and `_guide`."""
        rows = []
        for size in self.dataset.K.values:
            for name in self.dataset.estimator.values:
                cell = self.dataset.sel(estimator=name, K=size)
                if np.isnan(cell.seconds):
                    continue
                row: dict[str, Any] = {"estimator": str(name), "K": int(size)}
                for key, value in cell.data_vars.items():
                    if value.dims:
                        row |= {f"{key}_{part}": float(value.sel(part=part)) for part in value.part.values}
                    else:
                        row[str(key)] = float(value)
                rows.append(row)
        table = pd.DataFrame(rows)
        # the evidence says nothing of the guide
        return table.drop(
            columns=[name for name in table if name.startswith("distance") and name.endswith("_guide")]
        )

    @property
    def slopes(self) -> pd.DataFrame:
        """The power of K with which `snr`, `signal` and `variance` go, over all K: a row each,
        see `slope`.
        """
        return pd.DataFrame(
            {
                "quantity": quantity,
                "part": str(part),
                "estimator": str(name),
                "slope": fitted.slope,
                "standard_error": fitted.standard_error,
                "points": fitted.num_points,
            }
            for quantity in QUANTITIES
            for part in self.dataset.part.values
            for name in self.dataset.estimator.values
            for fitted in [self.slope(str(name), str(part), quantity)]
        )

    def slope(self, estimator: str, part: str, quantity: str = "snr", correction: bool = False) -> Slope:
        """The fitted power law of one quantity in K.

        Args:
            estimator, part: one of the result's, "model" or "guide".
            quantity: "snr", "signal" or "variance".
            correction: with a first term in 1 / K. The rates that theory knows (Rainforth et al.,
                arXiv:1802.04537, theorem 1) are those of large K, with a relative error of that order.

        Raises:
            KeyError: for a name that is not in the result.
        """
        cell = self.dataset.sel(estimator=estimator, part=part)
        return fit_slope(
            cell.K.values.tolist(),
            cell[quantity].values.tolist(),
            cell[f"{quantity}_standard_error"].values.tolist(),
            correction,
        )

    @property
    def references(self) -> dict[str, str]:
        """What the bias of each estimator was measured against."""
        known: dict[str, str] = json.loads(self.dataset.attrs["references"])
        return known

    @property
    def loops(self) -> dict[str, str]:
        """The estimators whose draws were not vectorised, and why."""
        known: dict[str, str] = json.loads(self.dataset.attrs["loops"])
        return known

    def plot_bounds(self, ax: Axes | None = None) -> Axes:
        """The bounds against K, and the evidence as a line."""
        return plots.bounds(self.dataset, ax)

    def plot_snr(self, part: str = "guide", correction: bool = False, ax: Axes | None = None) -> Axes:
        """The signal-to-noise ratio of a program's gradient against K, in log-log, with its `slope`s.

        Raises:
            ValueError: for a part that the result has not.
        """
        parts = [str(known) for known in self.dataset.part.values]
        if part not in parts:
            raise ValueError(f"part must be one of {parts}, got {part!r}")
        names = [str(name) for name in self.dataset.estimator.values]
        slopes = {name: self.slope(name, part, correction=correction) for name in names}
        return plots.snr(self.dataset, part, slopes, ax)

    def save(self, path: str | Path) -> Path:
        """Write the dataset as netCDF, atomically."""
        return save_dataset(self.dataset, path)

    @classmethod
    def load(cls, path: str | Path) -> AtPoint:
        """Read what `save` wrote.

        Raises:
            ValueError: for a file that is none.
        """
        return cls(load_dataset(path, needs=("bound", "variance")))

    def __str__(self) -> str:
        attributes = self.dataset.attrs
        bounded = attributes.get("evidence_is_lower_bound", 0)
        head = (
            f"at one point: {attributes['num_data']} data, {attributes['draws']:,} draws; "
            f"log p(x) {'≥' if bounded else '='} {attributes['evidence']:.3f} nats, "
            f"{attributes['evidence_source']}"
        )
        gap = "gap ≥" if bounded else "gap"
        table = self.table
        shown = pd.DataFrame(
            {
                "estimator": table["estimator"],
                "K": table["K"],
                "bound": [plus_minus(row.bound, row.bound_standard_error) for row in table.itertuples()],
                gap: [plus_minus(row.gap, row.gap_standard_error) for row in table.itertuples()],
            }
        )
        for part in self.dataset.part.values:
            shown[f"SNR {part}"] = table[f"snr_{part}"].map("{:.3g}".format)
            if f"bias_{part}" in table:
                # a bias is shown where it is seen
                seen = table[f"bias_sigmas_{part}"] > 3
                shown[f"bias {part}"] = table[f"bias_{part}"].map("{:.2g}".format).where(seen, "-")
        shown["ms"] = (1000 * table["seconds"]).map("{:.3g}".format)
        shown["MB"] = (table["memory"] / 1e6).map("{:.3g}".format)
        return f"{head}\n{shown.to_string(index=False)}"
