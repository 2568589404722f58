"""`ppl-vae score`: how strange each datum is to the pair of a run's folder."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from ppl_vae import evaluate
from ppl_vae.cli import OK
from ppl_vae.cli.command_impute import add_part
from ppl_vae.cli.errors import UsageError
from ppl_vae.cli.options import Parser, add_data, make_parser
from ppl_vae.cli.saved import ALL, add_run, data_of_run, load_pair, part_of
from ppl_vae.core.checks import check_seed
from ppl_vae.evaluate import anomaly
from ppl_vae.runs import atomic_write

EPILOG = """examples:
  ppl-vae score runs/digits --out scores.csv                         -log p(x) of each test datum
  ppl-vae score runs/digits --data strange.npz --method regret --out scores.csv
"""
LEFT_OUT: set[str | int] = {"pair", "data", "labels", "others", "reference", "seed", "capture"}


def parser() -> Parser:
    """The options of `ppl-vae score`."""
    options = make_parser("score", "How strange each datum is.", EPILOG, arguments="RUN ")
    add_run(options)
    add_part(options)
    options.add_argument("--out", type=Path, required=True, help="a .csv: datum, score")
    options.add_function_arguments(anomaly, None, skip=LEFT_OUT, as_group=False)
    add_data(options, default=None)
    return options


def run(words: Sequence[str]) -> int:
    """Score as the words say."""
    options = parser().read(words)
    check_seed("--seed", options.seed)
    if options.out.suffix != ".csv":
        raise UsageError(f"--out {options.out}: give a name that ends in .csv")
    if options.method in ("ratio", "waic"):
        raise UsageError(
            f"--method {options.method} takes several pairs: ask for it in Python, "
            f"evaluate.anomaly(pair, data, "
            f"{options.method!r}, others=...)"
        )
    pair = load_pair(options)
    dataset = data_of_run(options)
    settings = {
        name: options[name]
        for name in (
            "method",
            "entropy",
            "num_particles",
            "num_steps",
            "step_size",
            "batch_size",
            "chunk",
            "progress",
        )
    }
    if options.method == "typicality" and options.entropy is None:
        if options.part == ALL:
            raise UsageError(
                "--method typicality with --part all has no training data to learn from: give --entropy"
            )
        settings["reference"] = dataset.train
    found = evaluate.anomaly(pair, part_of(dataset, options.part), seed=options.seed, **settings)
    lines = ["datum,score", *(f"{number},{float(score)!r}" for number, score in enumerate(found.score))]
    atomic_write(options.out, lambda path: path.write_text("\n".join(lines) + "\n"))
    print(found)
    print(f"in {options.out}")
    return OK
