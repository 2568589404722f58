"""`ppl-vae compare`: estimators side by side, after training and at a point; a folder keeps all of it."""

from __future__ import annotations

import functools
import inspect
import os
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, get_type_hints

from pyro.infer import ELBO as PyroELBO

from ppl_vae.cli import OK
from ppl_vae.cli.command_train import COMMAND, contents
from ppl_vae.cli.errors import UsageError
from ppl_vae.cli.options import Parser, add_data, add_pair, build, load_data, make_parser
from ppl_vae.cli.report import save_figure
from ppl_vae.comparison import Comparison, after_training, at_point, compare
from ppl_vae.core.pair import Pair
from ppl_vae.data import DataSet
from ppl_vae.runs import RunFolder, atomic_write
from ppl_vae.runs.seals import sealed_text
from ppl_vae.train import FitOptions
from ppl_vae.train.options import PER_RUN

EPILOG = """examples:
  ppl-vae compare --epochs 30 --estimators '[ELBO, IWAE, DReG]'
  ppl-vae compare --config compare.yaml --run_dir runs/compare --n_jobs 2

compare.yaml:
  data: digits
  epochs: 100
  seeds: [0, 1, 2]
  fit: {batch_size: 50, learning_rate: 0.002}
  estimators:
    - ELBO
    - {class_path: IWAE, init_args: {num_particles: 50}}
    - {class_path: pyro.infer.Trace_ELBO, init_args: {num_particles: 5, vectorize_particles: true}}

The same command with the same --run_dir repeats no finished run and continues half ones.
"""

_DEFAULT = [
    {"class_path": "ppl_vae.estimators.ELBO"},
    {"class_path": "ppl_vae.estimators.IWAE", "init_args": {"num_particles": 10}},
    {"class_path": "ppl_vae.estimators.DReG", "init_args": {"num_particles": 10}},
]


def parser() -> Parser:
    """The options of `ppl-vae compare`: those of `comparison.after_training`,
    `comparison.at_point` and `fit`.
    """
    options = make_parser(
        "compare", "Train a pair with several estimators, alike in all else, and compare them.", EPILOG
    )
    add_data(options)
    add_pair(options)
    group = options.add_argument_group("the comparison")
    group.add_argument(
        "--estimators",
        type=list[PyroELBO],
        default=_DEFAULT,
        help="names from `ppl-vae list estimators`, or classes with arguments as in the example",
    )
    group.add_argument(
        "--run_dir",
        type=str | None,
        default=None,
        help="where all of it is kept; by default runs/compare-<data>-<date>-<time>",
    )
    group.add_function_arguments(_own_options(), as_group=False)
    group.add_function_arguments(
        at_point, "at_point", skip={"pair", "estimators", "data", "seed", "check", "progress"}, as_group=False
    )
    options.add_argument_group("each training").add_class_arguments(
        FitOptions, "fit", skip={"progress", *PER_RUN}, as_group=False, instantiate=False
    )
    return options


def _own_options() -> Callable[..., None]:
    """The signature of `after_training` without what are options elsewhere, or none.

    Without its **fit_options, too: jsonargparse would follow them through the sources for seconds.
    """
    elsewhere = ("make_pair", "estimators", "data", "judge_on", "run_dir", "fit_options")
    signature, types = inspect.signature(after_training), get_type_hints(after_training)

    def options() -> None: ...

    options.__doc__ = after_training.__doc__
    options.__signature__ = signature.replace(  # type: ignore[attr-defined]
        parameters=[
            parameter.replace(annotation=types[name])
            for name, parameter in signature.parameters.items()
            if name not in elsewhere
        ],
        return_annotation=None,
    )
    return options


@functools.cache
def _reader() -> Parser:
    return parser()  # once, since a worker makes many pairs


@dataclass(frozen=True)
class PairFromOptions:
    """A seed to the pair that options describe, also in another process."""

    options: str
    dataset: DataSet

    def __call__(self, seed: int) -> Pair:
        if os.getcwd() not in sys.path:
            sys.path.append(os.getcwd())  # a worker has the folder, but does not import from it
        reader = _reader()
        return build(reader, reader.parse_string(self.options), self.dataset, seed)[0]


def run(words: Sequence[str]) -> int:
    """Compare as the words say."""
    options = parser()
    chosen = options.read(words)
    if (chosen.epochs is None) == (chosen.seconds is None):
        raise UsageError("give one budget for each run: --epochs 30, or --seconds 60")
    dataset = load_data(chosen)
    built = options.build(chosen)
    folder = RunFolder(
        f"runs/compare-{dataset.name}-{time.strftime('%Y%m%d-%H%M%S')}"
        if built.run_dir is None
        else built.run_dir
    )
    names = ("epochs", "seconds", "seeds", "judge_particles", "judge_seed", "n_jobs", "progress")
    print(f"{dataset!r}\ncompares in {folder.path}", flush=True)
    keep = chosen.clone()
    keep.config = keep.run_dir = None
    keep.trust = []  # whom one trusts is never read from a file
    text = options.dump(keep, skip_unset=False)  # a null may be a choice
    with folder.owned():
        if not folder.has(COMMAND):  # a comparison that is refused leaves the command of the one before
            folder.write_text(COMMAND, sealed_text(text))
        try:
            result = compare(
                PairFromOptions(text, dataset),
                built.estimators,
                dataset,
                run_dir=folder.path,
                point=vars(built.at_point),
                **{name: built[name] for name in names},
                **vars(built.fit),
            )
        except KeyboardInterrupt:
            raise KeyboardInterrupt(
                f"the same command with --run_dir {folder.path} goes on from there"
            ) from None
        folder.write_text(COMMAND, sealed_text(text))
        write_comparison(folder.path, result)
        folder.tell()
    print(f"\n{result}\n\n{contents(folder.path)}")
    return OK


def write_comparison(folder: Path, result: Comparison) -> None:
    """The tables as CSV, the summary as text, and the figures."""
    tables: dict[str, Any] = {
        "after_training.csv": result.after_training.table,
        "at_point.csv": result.at_point.table,
        "slopes.csv": result.at_point.slopes,
    }
    for name, table in tables.items():
        atomic_write(folder / name, functools.partial(table.to_csv, index=False))
    atomic_write(folder / "summary.txt", lambda path: path.write_text(f"{result}\n", encoding="utf-8"))
    figures = folder / "figures"
    save_figure(result.after_training.plot_scores(), figures / "scores.png")
    save_figure(result.after_training.plot_curves("step"), figures / "curves_steps.png")
    save_figure(result.after_training.plot_curves("seconds"), figures / "curves_seconds.png")
    save_figure(result.at_point.plot_bounds(), figures / "bounds.png")
    for part in result.at_point.dataset.part.values:
        save_figure(result.at_point.plot_snr(str(part)), figures / f"snr_{part}.png")
