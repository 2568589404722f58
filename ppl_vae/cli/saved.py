"""What `evaluate` and `sample` share: a run's pair, and the data that it was trained on."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal

import jsonargparse

from ppl_vae import data, runs
from ppl_vae.cli.command_train import COMMAND
from ppl_vae.cli.errors import UsageError
from ppl_vae.cli.options import Parser
from ppl_vae.core.pair import Pair
from ppl_vae.data.division import Division
from ppl_vae.data.loading import TABLES
from ppl_vae.data.named import NAMED
from ppl_vae.data.text_file import rows_of_file
from ppl_vae.runs import CONFIG, RunError, RunFolder
from ppl_vae.runs.identity import other_data
from ppl_vae.runs.safe_yaml import YamlError, read_yaml
from ppl_vae.runs.schemas import schema_of

ALL = "all"
Part = Literal["train", "valid", "test", "all"]


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
        RunError: where the options of the run give other data by now.
    """
    if options.data is not None:
        return _given(options)
    if getattr(options, "part", None) == ALL:
        raise UsageError("--part all is for a table of --data; the run's own data have train, valid and test")
    path = options.run / COMMAND
    if not path.is_file():
        return _data_in_python(options.run)
    try:
        kept = read_yaml(path)
        load: dict[str, Any] = {
            name: tuple(value) if isinstance(value, list) else value for name, value in kept["load"].items()
        }
        found = data.load(kept["data"], **load)
    except (YamlError, OSError, KeyError, TypeError, AttributeError) as error:
        raise RunError(f"{path} is damaged ({error}): give --data") from error
    folder = RunFolder(options.run)
    known = folder.read_config().get("data") if folder.has(CONFIG) else None
    if isinstance(known, dict) and other_data(known, found):
        raise RunError(
            f"{path}: --data {kept['data']} with these options is no longer what the run was trained on: say "
            f"with --data (and --load.*) what to judge it on"
        )
    return found


def part_of(dataset: data.DataSet, name: str) -> data.Split:
    """One part by its name, or all rows."""
    return dataset.test if name == ALL else dataset.part(name)


def _given(options: jsonargparse.Namespace) -> data.DataSet:
    """The data of `--data`: rows of the run's table as that has them, not as they would be by themselves."""
    load, whole = vars(options.load), getattr(options, "part", None) == ALL
    folder, path = RunFolder(options.run), Path(str(options.data)).expanduser()
    schema = schema_of(folder, folder.read_config()) if folder.has(CONFIG) else None
    if schema is None or path.suffix.lower() not in TABLES or not path.is_file():
        if whole:
            raise UsageError("--part all is for a table in a text file, with a run that was trained on one")
        return data.load(options.data, **load)
    if given := [name for name in ("columns", "standardise", "missing") if load.get(name) is not None]:
        raise UsageError(f"--load.{given[0]}: the run's own table says how {path} is read: leave it out")
    names = ("seed", "valid_fraction", "test_fraction", "labels")
    division = Division(**{name: load[name] for name in names if name in load})
    return rows_of_file(path, schema, None if whole else division)


def _data_in_python(run: Path) -> data.DataSet:
    """The data of a run of `pv.fit`, where its name gives the very data that the run was trained on."""
    folder = RunFolder(run)
    config = folder.read_config() if folder.has(CONFIG) else {}
    settings = config.get("fit")
    known, told = config.get("data"), settings.get("data") if isinstance(settings, dict) else None
    why = "" if told is None else f", on {told}"
    if isinstance(known, dict) and known.get("name") in NAMED:
        name = str(known["name"])
        found = data.load(name)
        if repr(found) == told and not other_data(known, found):  # which reads all of it
            return found
        why += f", which is not what --data {name} alone gives: its options differed"
    raise UsageError(
        f"{run} was trained in Python, by pv.fit{why}: give --data (and --load.*), what to judge it on"
    )
