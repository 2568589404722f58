"""The completions of a batch with gaps, as tensors and as frames."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from ppl_vae.data import Schema
from ppl_vae.evaluate.lines import rows


@dataclass(frozen=True, eq=False)
class Imputations:
    """S completions of a batch with gaps.

    Attributes:
        draws: (S, n, *event) by argument of the programs: complete, what was observed is as it was.
        means: (n, *event) by argument: E[x | what is observed], of one-hot vectors the probabilities; of
            numbers of classes, which have no mean, the most frequent one; NaN where the likelihood has none.
        hidden: (n, *event) booleans by argument, True where the entry was drawn.
        method: how.
        k_hat: (n,) Pareto shape of each datum's importance weights; None without weights.
        acceptance: (n,) share of moves that were taken; None without an accept step.
        r_hat: (n,) the largest R-hat of each datum's latents; None but for "hmc".
        schema: of a table: the way back to the user's units.
    """

    draws: Mapping[str, Tensor]
    means: Mapping[str, Tensor]
    hidden: Mapping[str, Tensor]
    method: str
    k_hat: Tensor | None = None
    acceptance: Tensor | None = None
    r_hat: Tensor | None = None
    schema: Schema | None = field(default=None, repr=False)

    @property
    def num_samples(self) -> int:
        """S."""
        return len(next(iter(self.draws.values())))

    @property
    def draw(self) -> Tensor:
        """The draws of the only argument with gaps."""
        return _only(self.draws)

    @property
    def mean(self) -> Tensor:
        """The mean of the only argument with gaps."""
        return _only(self.means)

    def frame(self) -> Any:
        """The drawn entries as a long pandas frame: `imputation`, `datum`, `entry` and `value`, and
        `argument` where several have gaps. Of a table `entry` is the column's name and `value` in its own
        units.
        """
        import pandas as pd  # not at the top: it is slow to import

        parts = []
        for name, draws in self.draws.items():
            places = self.hidden[name].reshape(len(self.hidden[name]), -1).nonzero()
            flat = draws.reshape(len(draws), draws.shape[1], -1)
            if self._is_table(name):
                assert self.schema is not None
                parts.append(self._of_table(name, draws, places))
                continue
            datum, entry = places.T.cpu()
            for number, values in enumerate(flat):
                parts.append(
                    pd.DataFrame(
                        {
                            "imputation": number,
                            "argument": name,
                            "datum": datum.numpy(),
                            "entry": entry.numpy(),
                            "value": values.cpu()[datum, entry].numpy(),
                        }
                    )
                )
        whole = pd.concat(parts, ignore_index=True)
        return whole if len(self.draws) > 1 else whole.drop(columns="argument")

    def tables(self) -> list[Any]:
        """Of a table, each completion as a frame in the user's own units."""
        if self.schema is None:
            raise ValueError("these data are no table: .draws has them as tensors")
        name = next(name for name in self.draws if self._is_table(name))
        return [self.schema.inverse(each) for each in self.draws[name]]

    def _is_table(self, name: str) -> bool:
        draws = self.draws[name]
        return self.schema is not None and draws.dim() == 3 and draws.shape[-1] == len(self.schema.names)

    def _of_table(self, name: str, draws: Tensor, places: Tensor) -> Any:
        import pandas as pd

        assert self.schema is not None
        names, parts = self.schema.names, []
        for number, values in enumerate(draws):
            table = self.schema.inverse(values)
            for column in range(len(names)):
                chosen = places[places[:, 1] == column, 0].cpu().numpy()
                cells = {
                    "datum": chosen,
                    "entry": names[column],
                    "value": table[names[column]].to_numpy()[chosen],
                }
                parts.append(pd.DataFrame({"imputation": number, "argument": name, **cells}))
        return pd.concat([part.astype({"value": object}) for part in parts], ignore_index=True)

    def lines(self) -> list[tuple[str, str, str]]:
        """(name, value, remark) of each line of the table."""
        found = [
            (f"missing in {name}", f"{int(mask.sum()):,}", f"of {mask.numel():,}, {mask.double().mean():.1%}")
            for name, mask in self.hidden.items()
        ]
        found.append(("draws", f"{self.num_samples:,}", self.method))
        if self.k_hat is not None:
            found.append(("largest k-hat", f"{float(self.k_hat.nan_to_num(nan=0.0).max()):.2f}", ""))
        if self.acceptance is not None:
            found.append(("acceptance", f"{float(self.acceptance.mean()):.2f}", "mean"))
        return found

    def __str__(self) -> str:
        return rows(f"{len(next(iter(self.hidden.values()))):,} data, imputed", self.lines())


def joined(parts: Sequence[Imputations]) -> Imputations:
    """Completions of the parts of a batch as those of the whole."""
    first = parts[0]
    if len(parts) == 1:
        return first

    def data(name: str, dim: int) -> dict[str, Tensor]:
        keys = dict.fromkeys(key for part in parts for key in getattr(part, name))
        return {key: torch.cat([getattr(part, name)[key] for part in parts], dim) for key in keys}

    def judged(name: str) -> Tensor | None:
        found = [getattr(part, name) for part in parts]
        return None if found[0] is None else torch.cat(found)

    return Imputations(
        data("draws", 1), data("means", 0), data("hidden", 0), first.method, judged("k_hat"),
        judged("acceptance"), judged("r_hat"), first.schema,
    )  # fmt: skip


def _only(entries: Mapping[str, Tensor]) -> Tensor:
    if len(entries) != 1:
        raise ValueError(f"several arguments have gaps, {list(entries)}: take one, .draws[name]")
    return next(iter(entries.values()))
