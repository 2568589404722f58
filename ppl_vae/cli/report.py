"""What is left of an evaluation: figures, inference data, and a summary for people and for programs."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import matplotlib.pyplot as plt
import pandas as pd
from matplotlib.axes import Axes
from torch import Tensor

from ppl_vae import evaluate, plots, queries
from ppl_vae.data import Split
from ppl_vae.evaluate import Bounds, Summary
from ppl_vae.inference_data import inference_data, save_inference_data
from ppl_vae.pair import Pair
from ppl_vae.run_folder import atomic_write
from ppl_vae.sites import PairError

NUM_COLUMNS = 10
NUM_SAMPLES = 64
NUM_TRAVERSED = 8


@dataclass(frozen=True, eq=False)
class Judgement:
    """An evaluation, whole or, for a pair that has no weights per datum, its bounds alone.

    Attributes:
        result: the numbers; `str` gives the table.
        note: why a part is missing, or nothing.
    """

    result: Summary | Bounds
    note: str = ""

    def __str__(self) -> str:
        return f"{self.result}\n  {self.note}" if self.note else str(self.result)

    def numbers(self) -> dict[str, Any]:
        """The numbers as plain values, for a JSON file."""
        whole = isinstance(self.result, Summary)
        bounds = self.result.bounds if isinstance(self.result, Summary) else self.result
        numbers: dict[str, Any] = {
            "unit": "nats per datum",
            "num_data": len(bounds.per_datum),
            "elbo": bounds.elbo,
            "elbo_standard_error": bounds.standard_error,
            "reconstruction": bounds.reconstruction,
            "kl": dict(bounds.kl),
        }
        if whole:
            likelihood, active = self.result.log_likelihood, self.result.active_units  # type: ignore[union-attr]
            numbers |= {
                "log_likelihood": likelihood.value,
                "log_likelihood_standard_error": likelihood.standard_error,
                "log_likelihood_monte_carlo_standard_error": likelihood.monte_carlo_standard_error,
                "num_particles": likelihood.num_particles,
                "ess_median": float(likelihood.ess.median()),
                "log_likelihood_is_lower_bound": likelihood.is_lower_bound,
                "k_hat_limit": likelihood.k_hat_limit,
                "k_hat_share_above_limit": likelihood.share_unreliable,
                "active_units": dict(active.count),
                "latent_units": dict(active.total),
            }
        # JSON has no NaN: what is not known, or withheld, is null
        return {
            name: None if isinstance(value, float) and not math.isfinite(value) else value
            for name, value in numbers.items()
        }


def judge(pair: Pair, split: Split, *, seed: int, progress: bool, **options: Any) -> Judgement:
    """`evaluate.summary`, or `evaluate.bounds` where latents are shared by all data.

    Raises:
        PairError: a pair that breaks the contract.
    """
    split = split.to(pair.device)
    try:
        return Judgement(evaluate.summary(pair, split, seed=seed, progress=progress, **options))
    except PairError as error:
        bounds = evaluate.bounds(pair, split, seed=seed, progress=progress)
        return Judgement(bounds, f"the ELBO alone: {error}")


def write_report(
    folder: Path,
    pair: Pair,
    split: Split,
    judgement: Judgement,
    history: pd.DataFrame | None,
    *,
    figures: bool = True,
    num_data: int = 32,
    num_samples: int = 100,
    seed: int = 0,
) -> list[str]:
    """Write summary.txt, summary.json, figures/ and inference_data.nc into a folder.

    Args:
        folder: the run's.
        pair: the trained pair.
        split: the data that it was judged on.
        judgement: the numbers.
        history: the training's metrics, where there are some.
        figures: draw the pictures.
        num_data: data in inference_data.nc; 0 leaves the file out.
        num_samples: draws for each of them.
        seed: of the draws.

    Returns:
        What was left out, and why: a line each.
    """
    table = f"{judgement}\n"
    numbers = json.dumps(judgement.numbers(), indent=2) + "\n"
    atomic_write(folder / "summary.txt", lambda path: path.write_text(table, encoding="utf-8"))
    atomic_write(folder / "summary.json", lambda path: path.write_text(numbers, encoding="utf-8"))
    split = split.to(pair.device)
    left_out = []
    if figures:
        for name, draw in _figures(pair, split, judgement, history, seed):
            try:
                save_figure(draw(), folder / "figures" / f"{name}.png")
            except (ValueError, PairError) as error:  # such as discrete latents, which cannot be traversed
                left_out.append(f"figure {name}: {error}")
            finally:
                plt.close("all")
    if num_data > 0:
        draws = inference_data(pair, split.take(num_data), num_samples, seed=seed)
        atomic_write(folder / "inference_data.nc", lambda path: save_inference_data(draws, path))
    return left_out


def save_figure(axes: Axes, path: Path) -> None:
    """Write the figure of some Axes as PNG."""
    figure = axes.figure
    atomic_write(path, lambda temporary: figure.savefig(temporary, dpi=150, bbox_inches="tight"))  # type: ignore[union-attr]
    plt.close(figure)  # type: ignore[arg-type]


def _figures(
    pair: Pair, split: Split, judgement: Judgement, history: pd.DataFrame | None, seed: int
) -> Iterator[tuple[str, Callable[[], Axes]]]:
    """The pictures that make sense for this pair and data, each to be drawn when it is called for."""
    if history is not None and len(history) > 1:
        yield "training_curves", lambda: plots.training_curves(history)
    if isinstance(judgement.result, Summary):
        yield "k_hat", lambda: plots.k_hat(judgement.result.log_likelihood)  # type: ignore[union-attr]
    yield "latent_map", lambda: _latent_map(pair, split, seed)
    if not is_image(split.shape):
        return
    few = split.take(2 * NUM_COLUMNS).tensors()
    given = _labels(split)
    yield (
        "reconstructions",
        lambda: plots.reconstructions(
            few[0], queries.reconstruct(pair, *few, given=given, seed=seed), NUM_COLUMNS
        ),
    )
    like = few if given else None
    yield (
        "samples",
        lambda: plots.samples(queries.sample(pair, NUM_SAMPLES, like=like, given=given, seed=seed)),
    )
    half = min(5, len(few[0]) // 2)
    if half:
        first, second = (
            tuple(tensor[part] for tensor in few) for part in (slice(half), slice(half, 2 * half))
        )
        yield (
            "interpolation",
            lambda: plots.interpolation(queries.interpolate(pair, first, second, given=given, seed=seed)),
        )
    yield "traversal", lambda: _traversal(pair, tuple(tensor[:1] for tensor in few), judgement, given, seed)


def is_image(shape: tuple[int, ...]) -> bool:
    """Whether a datum of this event shape can be shown."""
    return len(shape) == 3 and shape[0] in (1, 3)


def _latent_map(pair: Pair, split: Split, seed: int) -> Axes:
    part = split.take(2000)
    means = queries.encode(pair, *part.tensors(), seed=seed).means
    site = next(iter(means))
    mean = means[site].flatten(1)
    if not mean.is_floating_point() or mean.shape[1] < 2 or len(mean) != len(part):
        raise ValueError(f"site {site!r} has no two real dimensions for each datum")
    axes = plots.latent_map(mean, part.labels)
    axes.set_title(f"E[{site} | x]")
    return axes


def _traversal(
    pair: Pair, batch: tuple[Tensor, ...], judgement: Judgement, given: list[str], seed: int
) -> Axes:
    centre = queries.encode(pair, *batch, seed=seed).means
    site = next(iter(centre))
    dims = list(range(centre[site][0].numel()))
    if isinstance(judgement.result, Summary):
        variance = judgement.result.active_units.variance.get(site)
        if variance is not None:  # the units that do most, in their order
            dims = sorted(variance.flatten().argsort(descending=True)[:NUM_TRAVERSED].tolist())
    drawn = queries.traverse(pair, batch, site, dims[:NUM_TRAVERSED], given=given, seed=seed)
    return plots.traversal(drawn)


def _labels(split: Split) -> list[str]:
    """The observed site that holds the labels, which pictures do not draw anew: by custom `y`."""
    return ["y"] if split.with_labels else []
