"""`ppl-vae train`: a pair is made, trained, judged and drawn, and its run's folder keeps all of it."""

from __future__ import annotations

import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import jsonargparse

from ppl_vae import evaluate
from ppl_vae.cli import OK
from ppl_vae.cli.checked_before import check_folder, check_judged, check_judging
from ppl_vae.cli.choosing import imported
from ppl_vae.cli.default_pair import sum_over_classes
from ppl_vae.cli.errors import UsageError
from ppl_vae.cli.options import Parser, add_data, add_estimator, add_pair, build, load_data, make_parser
from ppl_vae.cli.rebuildable import refuse_unrebuildable
from ppl_vae.cli.report import judge, write_report
from ppl_vae.core.pair import Pair
from ppl_vae.data import DataSet
from ppl_vae.runs import CONFIG, RunError, RunFolder
from ppl_vae.runs.seals import sealed_text
from ppl_vae.train import FitOptions, Run, fit
from ppl_vae.train.options import NAMES, PLAIN

COMMAND = "command.yaml"

EPILOG = """examples:
  ppl-vae train --data digits --epochs 200 --kl LinearWarmup --kl.epochs 20
  ppl-vae train --data my_images/ --net conv --latent_dim 32         --pair.net, --pair.latent_dim
  ppl-vae train --data mnist --labels 100                 semi-supervised, 100 labels, 10 of each class
  ppl-vae train --data mnist --estimator pyro.infer.RenyiELBO --estimator.alpha 0.5
  ppl-vae train --model my_file.MyModel --model.hidden 64 --guide my_file.MyGuide
  ppl-vae train --config runs/digits/command.yaml        the options of an earlier run again

--model.help CLASS lists the arguments of a class; so do --guide.help, --estimator.help and --kl.help.
"""


def parser() -> Parser:
    """The options of `ppl-vae train`: those of `data.load`, `fit`, `evaluate.summary` and the report."""
    options = make_parser(
        "train", "Train a pair, judge it on the test data, and keep all of it in a run's folder.", EPILOG
    )
    add_data(options)
    add_pair(options)
    add_estimator(options)
    training = options.add_argument_group("the training")
    training.add_argument(
        "--run_dir",
        type=str | None,
        default=None,
        help="the run's folder; by default runs/<data>-<date>-<time>",
    )
    training.add_class_arguments(
        FitOptions, skip={"run_dir", *set(NAMES) - set(PLAIN)}, as_group=False, instantiate=False
    )
    judging = options.add_argument_group("the evaluation and the report")
    add_judging(judging)
    return options


def add_judging(group: Any) -> None:
    """The options of `evaluate.summary` and of the report."""
    group.add_function_arguments(
        evaluate.summary, "evaluate", skip={"pair", "data", "seed", "progress"}, as_group=False
    )
    group.add_argument(
        "--evaluate.num_simulations",
        type=int,
        default=200,
        help="data that the model draws to calibrate the guide on; statistics of the data are also held "
        "against replicates. 0 leaves both checks out",
    )
    group.add_function_arguments(
        write_report,
        "report",
        skip={"folder", "pair", "split", "judgement", "history", "seed"},
        as_group=False,
    )


def run(words: Sequence[str]) -> int:
    """Train as the words say."""
    options = parser()
    chosen = options.read(words)
    if chosen.resume and chosen.run_dir is None:
        raise UsageError("--resume needs the run to continue: give --run_dir runs/name")
    check_judging(chosen)
    if chosen.run_dir is not None:
        check_folder(chosen.run_dir, "--run_dir")
    dataset = load_data(chosen)
    check_judged(dataset.test, "test")
    sum_over_classes(chosen, dataset, words)
    pair, built = build(options, chosen, dataset, chosen.seed)
    names = _fit_options(built)
    folder = RunFolder(
        f"runs/{dataset.name}-{time.strftime('%Y%m%d-%H%M%S')}" if built.run_dir is None else built.run_dir
    )
    refuse_unrebuildable(pair, dataset)
    print(f"{dataset!r}\ntrains in {folder.path}", flush=True)
    with folder.owned() as owner:
        owner.keep(COMMAND, _command(options, chosen))  # written with the first of the run's files
        trained = _train(pair, built, dataset, folder, names)
        _judge(trained, built, dataset, folder)
        if folder.is_lost():
            raise RunError(
                f"{folder.path} was removed, renamed or replaced while the report was written: the run is "
                f"where that folder is now, and ppl-vae evaluate writes its report"
            )
    print(contents(folder.path))
    return OK


def _train(
    pair: Pair, built: jsonargparse.Namespace, dataset: DataSet, folder: RunFolder, names: dict[str, Any]
) -> Run:
    started = time.perf_counter()
    trained = fit(pair, built.estimator, dataset, run_dir=folder.path, **names)
    seconds = time.perf_counter() - started
    if trained.stopped == "interrupted":
        raise KeyboardInterrupt(_kept(folder))
    best = f", best epoch {trained.best_epoch}" if trained.best_epoch else ""
    print(f"trained {len(trained.history)} epochs in {seconds:.0f} s ({trained.stopped}{best})", flush=True)
    return trained


def _judge(trained: Run, built: jsonargparse.Namespace, dataset: DataSet, folder: RunFolder) -> None:
    try:
        judgement = judge(
            trained.pair, dataset.test, seed=built.seed, progress=built.progress, **vars(built.evaluate)
        )
        left_out = write_report(
            folder.path,
            trained.pair,
            dataset.test,
            judgement,
            trained.history,
            seed=built.seed,
            **vars(built.report),
        )
    except KeyboardInterrupt:
        raise KeyboardInterrupt(f"the training is done; ppl-vae evaluate {folder.path} judges it") from None
    print(f"\ntest data of {dataset.name}: {judgement}\n")
    for line in left_out:
        print(f"left out: {line}")


def contents(folder: Path) -> str:
    """What a folder holds, for people."""
    found = sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file())
    pictures = [name for name in found if name.startswith("figures/")]
    others = [name for name in found if not name.startswith(("figures/", ".")) and "/" not in name]
    lines = [f"{folder}/", f"  {', '.join(others)}"]
    if pictures:
        lines.append(f"  figures/: {', '.join(name.removeprefix('figures/') for name in pictures)}")
    return "\n".join(lines)


def _kept(folder: RunFolder) -> str:
    if not folder.has(CONFIG):
        return "nothing was kept"
    return (
        f"the weights so far are in {folder.path}. The same command with --run_dir {folder.path} --resume "
        f"goes on from the last checkpoint; ppl-vae evaluate {folder.path} judges what there is"
    )


def _fit_options(built: jsonargparse.Namespace) -> dict[str, Any]:
    """The keyword arguments of `fit` among the options."""
    options = {name: built[name] for name in PLAIN if name != "run_dir"}
    for name in ("optimizer", "schedule"):
        if isinstance(options[name], str) and "." in options[name]:
            options[name] = imported(options[name], f"--{name}")
    return options


def _command(options: Parser, chosen: jsonargparse.Namespace) -> str:
    """The options of a run, for `--config` and for `ppl-vae evaluate`."""
    again = chosen.clone()
    again.config = again.run_dir = None
    again.trust = []  # whom one trusts is never read from a file
    again.resume = False
    return sealed_text(options.dump(again, skip_unset=False))  # a null may be a choice: --load.binarise null
