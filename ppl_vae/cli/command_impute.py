"""`ppl-vae impute`: what is missing of data, drawn from the pair of a run's folder."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from ppl_vae import evaluate
from ppl_vae.cli import OK
from ppl_vae.cli.errors import UsageError
from ppl_vae.cli.options import Parser, add_data, make_parser
from ppl_vae.cli.saved import Part, add_run, data_of_run, load_pair, part_of
from ppl_vae.core.checks import check_seed
from ppl_vae.evaluate.imputation import impute
from ppl_vae.runs import atomic_write

EPILOG = """examples:
  ppl-vae impute runs/wine --data gaps.csv --out filled.csv               a table's gaps, in its own units
  ppl-vae impute runs/wine --method metropolis-within-gibbs --num_samples 100 --out draws.npz
"""


def parser() -> Parser:
    """The options of `ppl-vae impute`."""
    options = make_parser(
        "impute", "Draw what is missing of data: NaN, or empty cells.", EPILOG, arguments="RUN "
    )
    add_run(options)
    add_part(options)
    options.add_argument(
        "--out",
        type=Path,
        required=True,
        help="a .csv of the drawn cells (imputation, datum, entry, value), or a .npz of tensors",
    )
    options.add_function_arguments(impute, None, skip={"pair", "batch", "observed", "seed"}, as_group=False)
    add_data(options, default=None)
    return options


def add_part(options: Parser) -> None:
    """Of which part of the data, and the seed."""
    options.add_argument("--part", type=Part, default="test", help="of the data; all for a table")
    options.add_argument("--seed", type=int, default=0, help="of the draws")


def run(words: Sequence[str]) -> int:
    """Impute as the words say."""
    options = parser().read(words)
    check_seed("--seed", options.seed)
    if options.out.suffix not in (".csv", ".npz"):
        raise UsageError(f"--out {options.out}: give a name that ends in .csv or .npz")
    pair = load_pair(options)
    split = part_of(data_of_run(options), options.part)
    names = ("method", "num_samples", "num_proposals", "num_chains", "warmup", "num_leapfrogs")
    settings = {name: options[name] for name in (*names, "num_temperatures", "progress")}
    found = evaluate.impute(pair, split, seed=options.seed, **settings)
    if options.out.suffix == ".csv":
        frame = found.frame()
        atomic_write(options.out, lambda path: frame.to_csv(path, index=False))
    else:
        arrays = {name: value.cpu().numpy() for name, value in found.draws.items()}
        arrays |= {f"{name}_mean": value.cpu().numpy() for name, value in found.means.items()}
        atomic_write(options.out, lambda path: np.savez(path, **arrays))  # type: ignore[arg-type]
    print(found)
    print(f"in {options.out}")
    return OK
