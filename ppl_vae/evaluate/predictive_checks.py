"""Predictive checks: statistics of the data beside those of data that the model makes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from ppl_vae.core.checks import checked
from ppl_vae.core.isolation import one_thread, questioning
from ppl_vae.core.pair import Pair
from ppl_vae.evaluate.lines import rows
from ppl_vae.evaluate.loop import check_pair_type, progress_bar
from ppl_vae.evaluate.replicates import Latents, Replicates
from ppl_vae.evaluate.set_statistics import STATISTICS, Statistic


@dataclass(frozen=True, eq=False)
class PredictiveCheck:
    """Statistics of a data set and of its replicates.

    Attributes:
        names: (S,) of the statistics.
        observed: (S,), of the data.
        replicated: (R, S), of the replicates.
        p_values: (S,) two-sided: the share of replicates that are as far out on the data's side, twice.
        num_data: N, the data in each replicate.
        latents: where the replicates' latents come from.
    """

    names: tuple[str, ...]
    observed: Tensor = field(repr=False)
    replicated: Tensor = field(repr=False)
    p_values: Tensor = field(repr=False)
    num_data: int
    latents: Latents

    def lines(self) -> list[tuple[str, str, str]]:
        """(name, value, remark) of each line of the table."""
        lines = []
        for name, own, others, p in zip(
            self.names, self.observed.tolist(), self.replicated.T, self.p_values.tolist()
        ):
            low, high = others.quantile(0.025), others.quantile(0.975)
            lines.append((name, f"{own:.4g}", f"replicates {low:.4g} to {high:.4g}, p = {p:.2g}"))
        return lines

    def __str__(self) -> str:
        made = "drawn from the model" if self.latents == "prior" else "through the guide's latents"
        return rows(f"{self.num_data:,} data beside {len(self.replicated):,} replicates {made}", self.lines())


@one_thread
@checked()
def predictive_check(
    pair: Pair,
    data: Any,
    statistics: Mapping[str, Statistic] | Sequence[Statistic] | Statistic | None = None,
    *,
    num_replicates: int = 200,
    num_data: int | None = 2000,
    latents: Latents = "prior",
    site: str | None = None,
    seed: int | None = 0,
    progress: bool = False,
) -> PredictiveCheck:
    r"""Whether the model makes data like these, by statistics of whole sets of them.

    .. math:: p = 2 \min\Bigl(\frac{1 + \#\{T(x^{(r)}) \ge T(x)\}}{R + 1},
        \frac{1 + \#\{T(x^{(r)}) \le T(x)\}}{R + 1}\Bigr), \text{ at most } 1

    Each replicate holds as many data as there are, each with the datum's own inputs and its missing values
    missing too. With latents from the "prior" a replicate is a draw of the model, and p is at most uniform if
    the data are one. With latents from the "guide" it is the data's reconstruction, which asks the decoder
    alone, and whose p is the posterior predictive one, too seldom small.

    Args:
        pair: model and guide; their modules are in eval mode meanwhile.
        data: a `data.Split`, a Tensor (N, *event), a tuple of Tensors (N, ...), or what
            `data.as_split` takes; best data that the pair was not trained on.
        statistics: functions of the observed site's values, (N, *inner plates, *event) in float64 with NaN
            for what is missing, to a number, or to several; by name, or named as they are. By default mean,
            standard deviation, extremes, share of zeros and dispersion.
        num_replicates: R; p is at least 2 / (R + 1).
        num_data: N, drawn at random where there are more; all for None. They are in memory at once.
        latents: "prior" or "guide".
        site: the observed site; needed when there are several.
        seed: of the draws; the caller's random numbers stay as they were. None draws from those.
        progress: show a progress bar.

    Raises:
        ValueError: an unknown site, a statistic that is no finite number, named; as `pv.sample`.

    Gelman, Meng and Stern, Posterior Predictive Assessment of Model Fitness via Realized Discrepancies,
    Statistica Sinica 6, 1996; Box, Sampling and Bayes' Inference, 1980, for the prior's.

    >>> from ppl_vae.testing.oracles import linear_gaussian
    >>> pair, x = linear_gaussian().pair, torch.full((50, 2), 3.0, dtype=torch.float64)
    >>> check = predictive_check(pair, x, num_replicates=99)
    >>> [name for name, p in zip(check.names, check.p_values.tolist()) if p < 0.05][:2]
    ['mean', 'standard deviation']
    """
    check_pair_type(pair)
    chosen = _named(STATISTICS if statistics is None else statistics)
    with questioning(pair, seed, pair.device):
        source = Replicates(pair, data, num_data, latents, [] if site is None else [site])
        name, own = source.the_only()
        names, observed = _values(chosen, own)
        replicated = []
        with progress_bar(num_replicates, "predictive check", "replicates", progress) as bar:
            for _ in range(num_replicates):
                again, values = _values(chosen, source.draw()[name])
                if again != names:
                    raise ValueError(f"the statistics gave {len(names)} numbers, and then {len(again)}")
                replicated.append(values)
                bar.update(1)
    others = torch.stack(replicated)
    above, below = (others >= observed).sum(0), (others <= observed).sum(0)
    p_values = (2 * (1 + torch.minimum(above, below)).double() / (num_replicates + 1)).clamp_max(1)
    return PredictiveCheck(tuple(names), observed, others, p_values, len(source), latents)


def _named(statistics: Any) -> dict[str, Statistic]:
    if callable(statistics):
        statistics = [statistics]
    if isinstance(statistics, str) or not isinstance(statistics, Mapping | Sequence):
        raise ValueError(
            f"statistics must be functions of a batch, such as torch.mean, got {statistics!r:.80}"
        )
    if not isinstance(statistics, Mapping):
        names = [getattr(each, "__name__", type(each).__name__).replace("_", " ") for each in statistics]
        if len(set(names)) < len(names):
            raise ValueError(f"the statistics must have different names, got {names}: give a dict of them")
        statistics = dict(zip(names, statistics))
    for name, function in statistics.items():
        if not callable(function):
            raise ValueError(f"statistics[{name!r}] must be a function of a batch, got {function!r:.80}")
    if not statistics:
        raise ValueError("statistics is empty: give functions of a batch, or None for the usual ones")
    return dict(statistics)


def _values(statistics: Mapping[str, Statistic], x: Tensor) -> tuple[list[str], Tensor]:
    """The statistics' names and values; one that gives several numbers has them one by one."""
    x = x.cpu().double()
    names, values = [], []
    for name, function in statistics.items():
        found = function(x.clone())
        try:
            value = torch.as_tensor(found)
            if value.is_complex():
                raise TypeError("no order among complex numbers")
            value = value.double().cpu()
        except (TypeError, ValueError, RuntimeError):
            raise ValueError(
                f"the statistic {name!r} must be a number, or several, got {found!r:.80}"
            ) from None
        if not value.numel() or not bool(value.isfinite().all()):
            raise ValueError(
                f"the statistic {name!r} must be a finite number, or several, of a batch {tuple(x.shape)}, "
                f"got {value.flatten()[:4].tolist()}"
            )
        names += [name] if not value.dim() else [f"{name}[{i}]" for i in range(value.numel())]
        values.append(value.flatten())
    return names, torch.cat(values)
