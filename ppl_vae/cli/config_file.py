"""`--config`: a file of options may be a stranger's, so that it is checked before anything acts on it."""

from __future__ import annotations

import argparse
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from types import NoneType, UnionType
from typing import Any, Literal, Union, get_args, get_origin

import jsonargparse
import yaml

from ppl_vae.cli.errors import UsageError
from ppl_vae.runs.safe_yaml import NotYaml, YamlError, checked, load_yaml, read_text
from ppl_vae.runs.trust import PROGRAMS, ConfigError, UntrustedError, find

_PLAIN = (str, int, float, bool, NoneType, Path)
# longer than any path, since jsonargparse looks first whether a text is the name of a file
_NO_PATH = "#" * 5000 + "\n"


class ConfigFile(jsonargparse.ActionConfigFile):
    """jsonargparse's `--config`, which reads a file only after it has been found harmless."""

    def __call__(
        self, parser: Any, cfg: Any, values: Any, option_string: str | None = None
    ) -> None:  # as argparse calls it
        path = Path(values)
        if "\n" in values or ("{" in values and not path.exists()):
            return super().__call__(parser, cfg, values, option_string)  # options in the words themselves
        try:
            text = read_text(path)
            load_yaml(text)  # stricter: dates that are none are refused
            tree = _loaded(text)
        except OSError as error:
            raise UsageError(f"--config {values}: {error.strerror or error}") from error
        except YamlError as error:
            raise UsageError(f"--config {values}: {error}") from error
        if not isinstance(tree, dict) or not all(isinstance(key, str) for key in tree):
            raise UsageError(f"--config {values}: it holds no options: write them as name: value, one a line")
        groups = {action.dest.partition(".")[0] for action in parser._actions if "." in action.dest}
        groups -= {action.dest for action in parser._actions}  # options themselves, as --kl and --device are
        if bare := [name for name in groups & set(tree) if not isinstance(tree[name], dict)]:
            raise UsageError(
                f"--config {values}: {bare[0]}: {tree[bare[0]]!r} has no options: give some, or leave "
                f"{bare[0]} out"
            )
        try:
            check_tree(tree, plain_options(parser), parser.trusted, parser.named)
        except ConfigError as error:
            raise UsageError(f"--config {values}: {error}") from error
        self.apply_config(parser, cfg, self.dest, _NO_PATH + text)


def check_tree(
    tree: dict[str, Any], plain: Iterable[str], trust: Sequence[str], named: Iterable[str] = ()
) -> None:
    """Refuse the options of a file that name code which nobody said to trust; none of it is imported.

    Wherever a class or a function may stand, every text that could be its import path is held against
    `ppl_vae.runs.trust`, at any depth, and in texts that are themselves YAML.

    Args:
        tree: the file's options.
        plain: names of options whose values are only numbers, texts and lists of them.
        trust: modules whose code may run.
        named: import paths that the user has typed.

    Raises:
        ConfigError: names the place in the file, and what would allow it.
    """
    known = frozenset(plain)
    for name in ("trust", "config"):
        if tree.get(name):
            raise ConfigError(f"{name}: a file cannot give --{name}: write it on the command line")
    for place, text in _texts(tree, "", known):
        if not is_import_path(text) or text in named:
            continue
        try:
            find(text, trust, PROGRAMS, f"{place}: ")
        except UntrustedError:
            raise
        except ConfigError:
            if place.endswith("class_path") or text.split(".")[0] not in trust:
                raise


def is_import_path(text: str) -> bool:
    """Whether a text could be the path of something to import."""
    parts = text.split(".")
    return len(parts) > 1 and all(map(str.isidentifier, parts))


def _texts(value: Any, place: str, plain: frozenset[str]) -> Iterator[tuple[str, str]]:
    """Every text outside the plain options, with its place."""
    if place in plain:
        return
    if isinstance(value, str):
        inner = _inner(value, place)
        if isinstance(inner, dict | list):
            yield from _texts(inner, f"{place} ", plain)
        else:
            yield place, value.strip()
    elif isinstance(value, dict):
        for key, item in value.items():
            # jsonargparse would read a.b as nested, and drop what is empty below it without a word
            if "." in str(key) and (place or item in ({}, None)):
                raise ConfigError(
                    f"{place and place + ': '}{key!r} is no option; a class is written class_path: {key}"
                )
            yield from _texts(item, f"{place}.{key}" if place else str(key), plain)
    elif isinstance(value, list | tuple | set):
        for number, item in enumerate(value):
            yield from _texts(item, f"{place}[{number}]", plain)


def _inner(text: str, place: str) -> Any:
    """What jsonargparse will make of a text: the values of a YAML that it may be, or itself.

    Raises:
        ConfigError: for YAML that is refused, since what it names cannot be seen.
    """
    if not set(text) & set("{[:-?\n"):
        return text
    try:
        return _loaded(text)
    except NotYaml:
        return text
    except YamlError as error:
        raise ConfigError(f"{place}: {error}") from error


def _loaded(text: str) -> Any:
    """The values of a YAML text, by the very reader whose values are acted on:
    another may refuse what it takes.
    """
    checked(text)
    try:
        return jsonargparse.get_loader("yaml")(text)
    except yaml.YAMLError as error:
        raise NotYaml(f"it is no YAML of plain values: {error}") from error
    except Exception as error:  # `!!bool x` is a KeyError, `!!int ''` an IndexError
        raise YamlError(f"it is no YAML of plain values: {error}") from error


def plain_options(parser: argparse.ArgumentParser) -> set[str]:
    """The options that can hold no class and no function."""
    return {
        action.dest
        for action in parser._actions
        if is_plain(getattr(action, "_typehint", None) or action.type)
    }


def is_plain(hint: Any) -> bool:
    """Whether an annotation is one of numbers, texts, paths, and lists of them."""
    hint = getattr(hint, "__value__", hint)
    origin, options = get_origin(hint), get_args(hint)
    if origin is Literal or hint is Ellipsis:
        return True
    if origin in (Union, UnionType, tuple, list) or str(origin).startswith("<class 'collections.abc.Seq"):
        return all(is_plain(option) for option in options)
    return hint in _PLAIN


def holds_text(hint: Any) -> bool:
    """Whether a text alone is a value of an annotation, as a path or a name is."""
    hint = getattr(hint, "__value__", hint)
    if get_origin(hint) in (Union, UnionType):
        return any(holds_text(option) for option in get_args(hint))
    return hint in (str, Path)
