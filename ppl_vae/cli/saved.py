"""What `evaluate` and `sample` share: a run's pair, and the data that it was trained on."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import jsonargparse

from ppl_vae import data, runs
from ppl_vae.cli.command_train import COMMAND
from ppl_vae.cli.errors import UsageError
from ppl_vae.cli.options import Parser
from ppl_vae.pair import Pair
from ppl_vae.run_folder import RunError
from ppl_vae.safe_yaml import YamlError, read_yaml


def add_run(parser: Parser) -> None:
    """The run's folder, whose code to trust, and where to compute."""
    parser.add_argument("run", type=Path, help="the run's folder, such as runs/digits")
    parser.add_argument("--device", type=str, default="cpu", help="cpu, cuda, cuda:1, mps")


def load_pair(options: jsonargparse.Namespace) -> Pair:
    """The run's pair.

    Raises:
        RunError: as `pv.load`.
    """
    return runs.load(options.run, trust=options.trust, device=options.device)


def data_of_run(options: jsonargparse.Namespace) -> data.DataSet:
    """The data of the options, or else what the run was trained on.

    Raises:
        UsageError: for a run that `ppl-vae train` did not make, without `--data`.
    """
    if options.data is not None:
        return data.load(options.data, **vars(options.load))
    path = options.run / COMMAND
    if not path.is_file():
        raise UsageError(
            f"{options.run} does not say its data, since it was not made by ppl-vae train: give --data"
        )
    try:
        kept = read_yaml(path)
        load: dict[str, Any] = {
            name: tuple(value) if isinstance(value, list) else value for name, value in kept["load"].items()
        }
        return data.load(kept["data"], **load)
    except (YamlError, OSError, KeyError, TypeError, AttributeError) as error:
        raise RunError(f"{path} is damaged ({error}): give --data") from error
