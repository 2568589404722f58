"""`ppl-vae evaluate`: the pair of a run's folder, judged on data."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from ppl_vae.cli import OK
from ppl_vae.cli.checked_before import check_folder, check_judged, check_judging
from ppl_vae.cli.command_train import add_judging, contents
from ppl_vae.cli.options import Parser, add_data, make_parser
from ppl_vae.cli.report import judge, write_report
from ppl_vae.cli.saved import Part, add_run, data_of_run, load_pair, part_of
from ppl_vae.runs import METRICS, RunFolder

EPILOG = """examples:
  ppl-vae evaluate runs/digits --evaluate.num_particles 5000
  ppl-vae evaluate runs/mine --trust my_file --data test.npz --part test --out judged/
"""


def parser() -> Parser:
    """The options of `ppl-vae evaluate`."""
    options = make_parser("evaluate", "Judge the pair of a run's folder.", EPILOG, arguments="RUN ")
    add_run(options)
    options.add_argument("--part", type=Part, default="test", help="of the data; all for a table")
    options.add_argument(
        "--out", type=Path | None, default=None, help="a folder for summary, figures, inference data"
    )
    options.add_argument("--seed", type=int, default=0, help="of the draws")
    options.add_argument("--progress", type=bool, default=True, help="show progress bars")
    add_data(options, default=None)
    add_judging(options.add_argument_group("the evaluation and the report"))
    return options


def run(words: Sequence[str]) -> int:
    """Evaluate as the words say."""
    options = parser().read(words)
    check_judging(options)
    if options.out is not None:
        check_folder(options.out, "--out")
    pair = load_pair(options)
    dataset = data_of_run(options)
    split = part_of(dataset, options.part)
    check_judged(split, options.part)
    judgement = judge(pair, split, seed=options.seed, progress=options.progress, **vars(options.evaluate))
    print(f"{options.part} data of {dataset.name}: {judgement}")
    if options.out is not None:
        folder = RunFolder(options.run)
        history = folder.read_metrics() if (folder.path / METRICS).is_file() else None
        left_out = write_report(
            options.out, pair, split, judgement, history, seed=options.seed, **vars(options.report)
        )
        for line in left_out:
            print(f"left out: {line}")
        print(contents(options.out))
    return OK
