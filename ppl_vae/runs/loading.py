"""A pair as a run's configuration, and a trained pair loaded back from a run's folder."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
import yaml
from torch import Tensor, nn

from ppl_vae.core.isolation import one_thread
from ppl_vae.core.meeting import meet
from ppl_vae.core.pair import Pair
from ppl_vae.runs.behaviour import log_densities, unlike
from ppl_vae.runs.budget import at_most
from ppl_vae.runs.config import ConfigError, Tree, build, describe
from ppl_vae.runs.folder import CONFIG, WEIGHTS, RunFolder, written_version
from ppl_vae.runs.run_error import RunError
from ppl_vae.runs.safe_yaml import YamlError, load_yaml
from ppl_vae.runs.schemas import schema_of
from ppl_vae.runs.trust import find_program
from ppl_vae.runs.weights import shared_names, shortened, take_dtypes

# what the construction of a pair may take: its weights some times over, for their initial values, and
# this for what is not stored
_ROOM, _TIMES = 48 * 2**20, 8
_MOST_ROWS = 2**20  # of a blank batch for programs with parameters for each datum


def pair_config(pair: Pair, example: Sequence[Tensor] = ()) -> dict[str, Any]:
    """The part of a run's configuration that `load` needs: keys `ppl_vae`, `pair` and `datum`.

    `pair` holds the trees of model and guide. A pair that cannot be rebuilt from them (a class in a
    notebook, arguments that were not kept) gets `{"rebuildable": False, "why": ...}` in their place:
    `load` then asks for the pair itself. The pair is written and built once more to find that out; the
    random numbers of the caller are untouched.

    Args:
        example: a batch on which the rebuilt pair must compute what the pair does.
    """
    seen: dict[nn.Module, Tree] = {}
    try:
        trees: dict[str, Any] = {
            "model": describe(pair.model, seen),
            "guide": describe(pair.guide, seen),
            **_settings(pair),
        }
        trust = [tree["class_path"].rpartition(".")[0] for tree in seen.values()]
        functions = [tree for tree in (trees["model"], trees["guide"]) if "function" in tree]
        trust += [tree["function"].rpartition(".")[0] for tree in functions]
        rebuilt = _build_pair(_through_yaml(trees), trust)
        meet(rebuilt, example)
        _check_same(pair, rebuilt)
        if example:
            _check_alike(pair, rebuilt, example)
    except ConfigError as error:
        trees = {"rebuildable": False, "why": str(error), **_settings(pair)}
    datum = [[list(shape), str(dtype).removeprefix("torch.")] for shape, dtype in pair.datum_spec]
    return {"ppl_vae": written_version(), "pair": trees, "datum": datum}


def _settings(pair: Pair) -> dict[str, Any]:
    """What a pair has beside its programs, where it is not as usual."""
    given = {"plate": pair.plate, "vectorize": pair.vectorize, "rows": pair.fixed_rows}
    return {name: value for name, value in given.items() if value is not None}


def why_not_rebuildable(config: Mapping[str, Any]) -> str | None:
    """Why the pair of a `pair_config` cannot be built from its run's folder, and both ways out;
    None where it can.
    """
    trees = config["pair"]
    if trees.get("rebuildable") is not False:
        return None
    return (
        f"this pair cannot be rebuilt from a run's folder: {trees['why']}. Either store each argument of a "
        "constructor, unmodified, under an attribute of its own name, in classes that can be imported; or "
        f"keep the code that builds the pair and load the weights into it, pv.load(path, pair=...)"
    )


def pair_from_config(config: Mapping[str, Any], trust: Iterable[str] = ()) -> Pair:
    """Build the untrained pair of a configuration, in which modules are shared as they were.

    Args:
        config: has the key `pair`, and `datum` where the pair has seen data, as `pair_config` makes it.
        trust: modules of a user's own whose classes may be imported, see `ppl_vae.runs.config.build`.

    Raises:
        ConfigError: for a configuration that gives no pair; names the place inside it.
    """
    trees = config.get("pair")
    if not isinstance(trees, Mapping):
        raise ConfigError("the configuration has no mapping 'pair' with the trees of model and guide")
    if trees.get("rebuildable") is False:
        raise ConfigError(f"this pair was saved without a way to rebuild it: {trees.get('why')}")
    pair = _build_pair(trees, trust)
    pair.datum_spec = _datum_spec(config)
    return pair


def load(
    path: str | Path,
    *,
    pair: Pair | None = None,
    trust: Iterable[str] = (),
    device: str | torch.device = "cpu",
) -> Pair:
    """Give the trained pair of a run's folder, in eval mode; no code from its files is run.

    Args:
        path: the run's folder.
        pair: the pair to fill, built as it was trained; without it the configuration's is built.
        trust: modules of your own whose classes the configuration may import, such as `("my_file",)`.
        device: where the pair goes.

    Raises:
        RunError: for a folder that is no run's, damaged files, weights that do not fit, classes that
            are not trusted, or a device that is not there.
    """
    folder = RunFolder(path)
    if missing := [
        name for name in (CONFIG, WEIGHTS) if folder.path.is_dir() and not (folder.path / name).is_file()
    ]:
        raise RunError(f"{folder.path} is not the folder of a finished run: it lacks {' and '.join(missing)}")
    config = folder.read_config()
    try:
        datum_spec = _datum_spec(config)
        if pair is None:
            stored = (folder.path / WEIGHTS).stat().st_size
            room = _ROOM * (16 if trust else 1)  # a class of the user's may hold tables that are not stored
            with at_most(room + _TIMES * stored, f"{WEIGHTS} has {stored:,}: they do not belong together"):
                pair = pair_from_config(config, trust)
    except ConfigError as error:
        raise RunError(f"{folder.path / CONFIG}: {error}; or build it yourself and pass pair=...") from error
    folder.check_belonging(config)
    pair.datum_spec = datum_spec
    _meet_blank(pair, config)
    folder.load_weights(pair)
    pair.schema = schema_of(folder, config)
    try:
        return pair.to(device).eval()
    except (RuntimeError, AssertionError) as error:
        raise RunError(f"the pair cannot go to device {str(device)!r}: {error}") from error


def _meet_blank(pair: Pair, config: Mapping[str, Any]) -> None:
    """Let programs make what they make at their first run, before the weights are put into it."""
    rows = config["pair"].get("rows") if isinstance(config.get("pair"), Mapping) else None
    if pair.datum_spec and not pair.met:
        meet(pair, pair.blank_batch(rows if isinstance(rows, int) and 0 < rows <= _MOST_ROWS else 2))


@one_thread
def _build_pair(trees: Mapping[str, Any], trust: Iterable[str]) -> Pair:
    built: dict[int, nn.Module | None] = {}
    trust = (trust,) if isinstance(trust, str) else tuple(trust)
    with torch.random.fork_rng(devices=[]):  # initial weights are drawn only to be overwritten
        model, guide = (_program(trees.get(role, {}), trust, role, built) for role in ("model", "guide"))
    plate, vectorize = trees.get("plate"), trees.get("vectorize")
    for name, value, kind in (("plate", plate, str), ("vectorize", vectorize, bool)):
        if value is not None and not isinstance(value, kind):
            raise ConfigError(f"{name}: expected a {kind.__name__}, got {value!r:.80}")
    pair = Pair(model, guide, plate=plate, vectorize=vectorize)
    pair.own_copies()  # two runs of one file's functions must not share its nets
    return pair


def _program(
    tree: Any, trust: tuple[str, ...], role: str, built: dict[int, nn.Module | None]
) -> Callable[..., Any]:
    if isinstance(tree, Mapping) and list(tree) == ["function"] and isinstance(tree["function"], str):
        program: Callable[..., Any] = find_program(tree["function"], trust, f"{role}: ")
        return program
    return build(tree, trust, name=role, built=built)


def _check_same(pair: Pair, rebuilt: Pair) -> None:
    ours, theirs = (
        {names: tuple(state[names[0]].shape) for names in shared_names(state)}
        for state in (pair.state_dict(), rebuilt.state_dict())
    )
    differing = [" = ".join(names) for names in {**ours, **theirs} if ours.get(names) != theirs.get(names)]
    if differing:
        raise ConfigError(
            f"rebuilt from its constructor arguments, the pair has other tensors ({shortened(differing)}): "
            "keep each argument unmodified, make layers in the constructor, and share modules, not "
            "parameters"
        )


def _through_yaml(trees: Mapping[str, Any]) -> dict[str, Any]:
    """The trees as a run's folder will give them back."""
    try:
        read: dict[str, Any] = load_yaml(yaml.safe_dump(dict(trees), sort_keys=False, allow_unicode=True))
    except (yaml.YAMLError, YamlError) as error:
        raise ConfigError(f"its arguments do not survive a configuration file: {error}") from error
    return read


def _check_alike(pair: Pair, rebuilt: Pair, example: Sequence[Tensor]) -> None:
    wanted = log_densities(pair, example)
    if wanted is None:
        return
    take_dtypes(rebuilt, pair.state_dict())
    rebuilt.to(pair.device).load_state_dict(pair.state_dict())
    found = log_densities(rebuilt, example)
    if found is None or (differing := unlike(wanted, found)):
        told = "it does not run" if found is None else shortened(differing)
        raise ConfigError(
            "rebuilt from its constructor arguments and with the same weights, the pair computes something "
            f"else ({told}): an argument is not kept as it was given, or what the programs compute hangs on "
            f"more than their arguments and weights"
        )


def _datum_spec(config: Mapping[str, Any]) -> tuple[tuple[torch.Size, torch.dtype], ...]:
    spec = []
    try:
        for shape, dtype in config.get("datum") or ():
            if not isinstance(getattr(torch, dtype), torch.dtype):
                raise TypeError
            spec.append((torch.Size(shape), getattr(torch, dtype)))
    except (TypeError, ValueError, AttributeError):
        raise ConfigError(
            "datum: expected a list of [shape, dtype], such as [[[1, 8, 8], float32]], got "
            f"{config['datum']!r:.80}"
        ) from None
    return tuple(spec)
