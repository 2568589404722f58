"""`ppl-vae calibrate`: whether the guide of a run's folder is its model's posterior."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from ppl_vae import evaluate, plots
from ppl_vae.cli import OK
from ppl_vae.cli.errors import UsageError
from ppl_vae.cli.options import Parser, make_parser
from ppl_vae.cli.report import save_figure
from ppl_vae.cli.saved import add_run, load_pair
from ppl_vae.core.checks import check_seed

EPILOG = """examples:
  ppl-vae calibrate runs/digits --out calibration.png     ranks of what made the data among the guide's draws
  ppl-vae calibrate runs/digits --sandwich 100            log p(x) of the model's own data, from both sides
"""


def parser() -> Parser:
    """The options of `ppl-vae calibrate`."""
    options = make_parser(
        "calibrate",
        "Whether the guide is the model's posterior, on data that the model draws.",
        EPILOG,
        arguments="RUN ",
    )
    add_run(options)
    options.add_argument("--num_simulations", type=int, default=1000, help="data drawn from the model")
    options.add_argument("--num_draws", type=int, default=100, help="of the guide for each of them")
    options.add_argument("--sandwich", type=int, default=0, help="data for bounds from both sides")
    options.add_argument("--num_temperatures", type=int, default=500, help="of the sandwich")
    options.add_argument("--seed", type=int, default=0, help="of the draws")
    options.add_argument("--progress", type=bool, default=True, help="show progress bars")
    options.add_argument("--out", type=Path | None, default=None, help="a picture, .png")
    return options


def run(words: Sequence[str]) -> int:
    """Calibrate as the words say."""
    options = parser().read(words)
    check_seed("--seed", options.seed)
    if options.out is not None and options.out.suffix != ".png":
        raise UsageError(f"--out {options.out}: give a name that ends in .png")
    pair = load_pair(options)
    found = evaluate.calibration(
        pair, options.num_simulations, options.num_draws, seed=options.seed, progress=options.progress
    )
    print(found)
    if options.sandwich:
        both = evaluate.sandwich(
            pair,
            options.sandwich,
            num_temperatures=options.num_temperatures,
            seed=options.seed,
            progress=options.progress,
        )
        print(both)
    if options.out is not None:
        save_figure(plots.calibration(found), options.out)
        print(f"in {options.out}")
    return OK
