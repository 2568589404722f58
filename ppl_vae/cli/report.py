"""What is left of an evaluation: figures, inference data, and a summary for people and for programs."""

from __future__ import annotations

import json
import math
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import matplotlib.pyplot as plt
import pandas as pd
from matplotlib.axes import Axes

from ppl_vae import evaluate, queries
from ppl_vae.cli.criticism import Criticism, criticise
from ppl_vae.cli.figures import Figures, figures_of
from ppl_vae.core.pair import Pair
from ppl_vae.core.sites import PairError
from ppl_vae.data import Alphabet, Split, for_pair
from ppl_vae.data.selection import taken_by
from ppl_vae.evaluate import ActiveUnits, Bounds, Classification, LogLikelihood, Summary
from ppl_vae.evaluate.arviz_data import inference_data, save_inference_data
from ppl_vae.queries.classes import finite_sites
from ppl_vae.runs import atomic_write

LABEL = "y"
NUM_COLUMNS = 10
NUM_SAMPLES = 64
NUM_TRAVERSED = 8
DPI = 150


@dataclass(frozen=True, eq=False)
class Judgement:
    """An evaluation, whole or as much of it as there is for the pair.

    Attributes:
        result: the numbers; `str` gives the table. The bounds alone for a pair that has no weights per datum,
            and the active units alone for one without a density, such as a deterministic autoencoder.
        note: what the numbers are of, or why a part is missing.
        classes: how well the labels of the data are told, where a latent site of the pair stands for them.
        criticism: whether guide and model are right.
    """

    result: Summary | Bounds | ActiveUnits
    note: str = ""
    classes: Classification | None = None
    criticism: Criticism | None = None

    def __str__(self) -> str:
        parts = [str(self.result), f"  {self.note}" if self.note else ""]
        parts += [str(each) for each in (self.classes, self.criticism) if each is not None]
        return "\n".join(part for part in parts if part)

    def numbers(self) -> dict[str, Any]:
        """The numbers as plain values, for a JSON file."""
        numbers: dict[str, Any] = {"unit": "nats per datum"}
        if isinstance(self.result, Summary):
            numbers |= _of_bounds(self.result.bounds)
            numbers |= _of_log_likelihood(self.result.log_likelihood)
            numbers |= _of_active_units(self.result.active_units)
            if self.result.shortfall is not None:
                numbers["log_likelihood_annealed"] = self.result.shortfall.log_likelihood
                numbers["shortfall"] = self.result.shortfall.value
                numbers["shortfall_standard_error"] = self.result.shortfall.standard_error
        elif isinstance(self.result, Bounds):
            numbers |= _of_bounds(self.result)
        else:
            numbers |= _of_active_units(self.result)
        if self.classes is not None:
            numbers |= _of_classes(self.classes)
        if self.criticism is not None:
            numbers |= self.criticism.numbers()
        return _without_nan(numbers)


def _of_bounds(bounds: Bounds) -> dict[str, Any]:
    return {
        "num_data": len(bounds.per_datum),
        "elbo": bounds.elbo,
        "elbo_standard_error": bounds.standard_error,
        "reconstruction": bounds.reconstruction,
        "kl": dict(bounds.kl),
    }


def _of_log_likelihood(likelihood: LogLikelihood) -> dict[str, Any]:
    return {
        "log_likelihood": likelihood.value,
        "log_likelihood_standard_error": likelihood.standard_error,
        "log_likelihood_monte_carlo_standard_error": likelihood.monte_carlo_standard_error,
        "log_likelihood_is_lower_bound": likelihood.is_lower_bound,
        "num_particles": likelihood.num_particles,
        "ess_median": float(likelihood.ess.median()),
        "k_hat_limit": likelihood.k_hat_limit,
        "k_hat_share_above_limit": likelihood.share_unreliable,
    }


def _of_active_units(active: ActiveUnits) -> dict[str, Any]:
    return {"active_units": dict(active.count), "latent_units": dict(active.total)}


def _of_classes(classes: Classification) -> dict[str, Any]:
    return {
        "accuracy": classes.accuracy,
        "accuracy_standard_error": classes.standard_error,
        "log_loss": classes.log_loss,
    }


def _without_nan(numbers: dict[str, Any]) -> dict[str, Any]:
    """JSON has no NaN: what is not known, or withheld, is null."""
    return {
        name: _without_nan(value)
        if isinstance(value, dict)
        else None
        if isinstance(value, float) and not math.isfinite(value)
        else value
        for name, value in numbers.items()
    }


def judge(
    pair: Pair, split: Split, *, seed: int, progress: bool, num_simulations: int = 0, **options: Any
) -> Judgement:
    """`evaluate.summary`, or as much of it as there is for the pair and the data, and from so many simulated
    data whether the pair is right.

    Raises:
        PairError: a pair that breaks the contract.
    """
    split = split.to(pair.device)
    common: dict[str, Any] = {"seed": seed, "progress": progress}
    judged = _judged(pair, split, common, options)
    if num_simulations:
        judged = replace(judged, criticism=criticise(pair, split, num_simulations, seed))
    if split.labels is None or not bool((split.labels >= 0).any()):
        return judged
    seen, taken = for_pair(split, pair), taken_by(pair)
    # the numbers of classes that were found without labels mean nothing
    if taken is None or LABEL not in taken.names or LABEL not in finite_sites(pair, *seen[:2].tensors()):
        return judged
    classes = evaluate.classification(pair, split, site=LABEL, seed=seed)
    note = "log p(x, y), at the known labels" if LABEL in seen.names else ""
    return replace(judged, classes=classes, note="; ".join(filter(None, [note, judged.note])))


def _judged(pair: Pair, split: Split, common: dict[str, Any], options: dict[str, Any]) -> Judgement:
    try:
        return Judgement(evaluate.summary(pair, split, **common, **options))
    except (PairError, ValueError) as error:
        if not isinstance(error, PairError) and len(split) > 1:  # a variance over the data needs two
            raise
        whole = error
    try:
        return Judgement(evaluate.bounds(pair, split, **common), f"the ELBO alone: {whole}")
    except PairError as error:
        try:
            return Judgement(evaluate.active_units(pair, split, **common), f"no bounds: {error}")
        except (PairError, ValueError):
            raise error from None


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
    """Write summary.txt, summary.json, figures/ and inference_data.nc into a folder, of strings strings.txt.

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
    if split.naming.alphabet is not None:
        left_out += _write_strings(folder / "strings.txt", pair, split, split.naming.alphabet, seed)
    if figures:
        left_out += _draw(
            folder / "figures", figures_of(pair, split, judgement.result, history, seed, judgement.criticism)
        )
    if num_data > 0:
        try:
            draws = inference_data(pair, split.take(num_data), num_samples, seed=seed)
        except (ValueError, PairError) as error:
            left_out.append(f"inference_data.nc: {error}")
        else:
            atomic_write(folder / "inference_data.nc", lambda path: save_inference_data(draws, path))
    return left_out


def _write_strings(path: Path, pair: Pair, split: Split, alphabet: Alphabet, seed: int) -> list[str]:
    """Some strings of the data with their reconstructions, and some that the model draws."""
    try:
        batch = split.take(NUM_COLUMNS).tensors()
        again = queries.reconstruct(pair, *batch, seed=seed)
        pairs = zip(*map(alphabet.decode, (batch[0], again.value if again.mean is None else again.mean)))
        drawn = alphabet.decode(queries.sample(pair, NUM_SAMPLES, seed=seed).value)
    except (ValueError, PairError) as error:  # such as a model without a prior
        return [f"{path.name}: {error}"]
    parts = ["data: reconstruction", *map(": ".join, pairs), "", "drawn", *drawn]
    atomic_write(path, lambda temporary: temporary.write_text("\n".join(parts) + "\n", encoding="utf-8"))
    return []


def _draw(folder: Path, figures: Figures) -> list[str]:
    """Draw what can be drawn; what cannot, and why: a line each."""
    left_out = []
    try:
        for name, draw in figures:
            try:
                axes = draw()
            except (
                ValueError,
                PairError,
            ) as error:  # such as a model without a prior, which gives no samples
                left_out.append(f"figure {name}: {error}")
            else:
                save_figure(axes, folder / f"{name}.png")
            finally:
                plt.close("all")
    except (ValueError, PairError) as error:
        left_out.append(f"figures: {error}")
    return left_out


def save_figure(axes: Axes, path: Path) -> None:
    """Write the figure of some Axes as PNG."""
    figure = axes.figure
    atomic_write(path, lambda temporary: figure.savefig(temporary, dpi=DPI, bbox_inches="tight"))  # type: ignore[union-attr]
    plt.close(figure)  # type: ignore[arg-type]
