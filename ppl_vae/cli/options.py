"""Options from signatures: jsonargparse with a help that is short and errors that are one sentence."""

from __future__ import annotations

import argparse
import difflib
import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from types import ModuleType
from typing import get_args

import jsonargparse
import torch
from pyro.infer import ELBO as PyroELBO
from torch import nn

import ppl_vae.kl
from ppl_vae import data, estimators, guides, likelihoods, models, nets, penalties, priors
from ppl_vae.cli.config_file import ConfigFile, holds_text, is_import_path, plain_options
from ppl_vae.cli.default_pair import make_pair
from ppl_vae.cli.errors import UsageError
from ppl_vae.core.isolation import one_thread
from ppl_vae.core.pair import Pair
from ppl_vae.runs.safe_yaml import NotYaml, YamlError, checked


class Parser(jsonargparse.ArgumentParser):
    """jsonargparse's parser, less talkative, and careful with files; `make_parser` makes one.

    Attributes:
        trusted: the user's modules that a file of options may name.
        named: the import paths that stand in the words themselves, and are trusted for that.
    """

    trusted: tuple[str, ...] = ()
    named: frozenset[str] = frozenset()

    def format_help(self, formatter: argparse.HelpFormatter | None = None) -> str:
        # jsonargparse lists every subclass of nn.Module that happens to be imported: pages of them
        text = re.sub(
            r",\s+known\s+subclasses:[^)]*\)", ")", super().format_help(*[formatter] if formatter else [])
        )
        # what --<option>.help does is said once, in the epilog
        return re.sub(r"  --\S+\.help \[?CLASS_PATH_OR_NAME\]?\n(?: {20,}\S.*\n)+", "", text)

    def read(self, words: Sequence[str]) -> jsonargparse.Namespace:
        """Parse the words of a command line.

        Raises:
            UsageError: for an unknown option, a value of the wrong type, a class that is not there.
        """
        words, self.trusted = take_trust(words)
        words = [self._in_full(word) for word in words]
        self.named = self._paths(words)
        self._check_numbers(words)
        try:
            # the surroundings are no command line: what they name is not read
            options = self.parse_args(self._completed(words), env=False)
            options.trust = list(self.trusted)
            return options
        except argparse.ArgumentError as error:
            raise UsageError(
                f"{self._readable(error)}\n(ppl-vae {self.prog.split()[-1]} --help lists the options)"
            ) from error

    @one_thread
    def build(self, options: jsonargparse.Namespace) -> jsonargparse.Namespace:
        """Make the objects that the options describe."""
        instantiate = getattr(self, "instantiate", None) or self.instantiate_classes  # before 4.49
        built: jsonargparse.Namespace = instantiate(options)
        return built

    def _in_full(self, word: str) -> str:
        """`--load.labels` for `--labels`: the group may be left out where one option alone is called so."""
        match = re.match(r"--(\w+)(?=[.=]|$)", word)
        known = [option for action in self._actions for option in action.option_strings]
        if match is None or any(option.partition(".")[0] == match[0] for option in known):
            return word
        meant = [option for option in known if option.endswith(f".{match[1]}")]
        return meant[0] + word.removeprefix(match[0]) if len(meant) == 1 else word

    def _paths(self, words: Sequence[str]) -> frozenset[str]:
        """The import paths among the words, where a class or function is meant."""
        plain = plain_options(self)
        found: set[str] = set()
        for name, value in _values(words):
            if name.removeprefix("--") not in plain and name != "--config":
                found.update(part for part in re.split(r"[^\w.]+", value) if is_import_path(part))
        return frozenset(found)

    def _check_numbers(self, words: Sequence[str]) -> None:
        """Refuse 1:30, which YAML would read as 90, where a number is meant."""
        texts = {
            name
            for action in self._actions
            if holds_text(getattr(action, "_typehint", None) or action.type)
            for name in action.option_strings
        }
        for name, value in _values(words):
            if name in texts or name == "--config":
                continue
            try:
                checked(value)
            except NotYaml:
                continue
            except YamlError as error:
                raise UsageError(f"{name} {value:.80}: {error}") from error

    def _completed(self, words: Sequence[str]) -> list[str]:
        """`--resume` for `--resume true`, and `--kl Beta` for `--kl ppl_vae.kl.Beta`."""
        switches = {
            name
            for action in self._actions
            if bool in (kind := getattr(action, "_typehint", None), *get_args(kind))
            for name in action.option_strings
        }
        done: list[str] = []
        for word, following in zip(words, [*words[1:], "--"]):
            option = done[-1].removesuffix(".help") if done else ""
            home = _HOMES.get(option.rpartition(".")[2].lstrip("-")) if option.startswith("--") else None
            if home is not None and word in vars(home):
                word = f"{home.__name__}.{word}"
            done.append(word)
            if word in switches and following.startswith("-"):
                done.append("true")
        return done

    def _readable(self, error: argparse.ArgumentError) -> str:
        text = re.sub(r"<class '([\w.]+)'>", lambda match: match[1].rpartition(".")[2], str(error))
        if match := re.match(r"unrecognized arguments: (--?[^\s=]+)", text.lower()):
            known = [name for action in self._actions for name in action.option_strings]
            close = difflib.get_close_matches(match[1], known, n=1)
            return f"there is no option {match[1]}" + (f": did you mean {close[0]}?" if close else "")
        key = re.search(r'key "([^"]+)"', text)
        given = re.search(r"Given value: (.*)", text)
        where = f"--{key[1]}" + (f" {given[1]}" if given and len(given[1]) < 60 else "") if key else ""
        reasons = [
            line.strip().removeprefix("- ")
            for line in re.sub(r'^.*?key "[^"]+":', "", text, count=1, flags=re.DOTALL).splitlines()
            if line.strip() and not _NOISE.search(line)
        ]
        if text.startswith("Problems parsing config"):
            return f"--config: {' '.join(text.split())}"
        if match := re.search(r"Expected a dot import path string: (\S+)", text):
            return f"{where}: {_no_class(match[1])}"
        reason = " ".join(dict.fromkeys(reasons)).replace("typing.", "")
        reason = re.sub(r"Problem with given class_path '([^']+)': ", r"\1: ", reason)
        return f"{where}: {reason}" if where else reason


# where a short name is looked up, by the last word of the option: a guide, a prior, a likelihood share some
_HOMES: dict[str, ModuleType] = {"model": models, "guide": guides, "kl": ppl_vae.kl, "penalties": penalties}
_HOMES |= {"likelihood": likelihoods, "prior": priors, "decoder": nets, "encoder": nets}
_NAMESPACES: tuple[ModuleType, ...] = (*dict.fromkeys(_HOMES.values()), estimators)

_NOISE = re.compile(
    r"^\s*(Subtypes:|Errors:|Given value|- Expected a NoneType|(- )?Expected a path but"
    r"|(- )?Does not validate against any)"
)


def _values(words: Sequence[str]) -> Iterator[tuple[str, str]]:
    """The options among the words, each with its values."""
    option = ""
    for word in words:
        option, _, value = word.partition("=") if word.startswith("--") else (option, "", word)
        if option:
            yield option, value


def make_parser(command: str, description: str, epilog: str = "", arguments: str = "") -> Parser:
    """The parser of a command, with `--config`."""
    parser = Parser(
        prog=f"ppl-vae {command}",
        usage=f"ppl-vae {command} {arguments}[options]",
        description=description,
        epilog=epilog,
        exit_on_error=False,
        formatter_class=_Formatter,
    )
    parser.add_argument(
        "--config", action=ConfigFile, help="a YAML file of options; --print_config writes one"
    )
    parser.add_argument(
        "--trust",
        type=list[str],
        default=[],
        metavar="MODULE",
        help="your own modules that a file may name, one or several: --trust my_file. What stands in the "
        "command's words needs none",
    )
    return parser


def take_trust(words: Sequence[str]) -> tuple[list[str], tuple[str, ...]]:
    """The words without `--trust`, and the modules that it names: `a`, `a b`, `a,b` or `[a, b]`.

    Raises:
        UsageError: for what is no name of a module.

    >>> take_trust(["run", "--trust", "my_file", "mine.nets", "--num", "3"])
    (['run', '--num', '3'], ('my_file', 'mine.nets'))
    """
    left: list[str] = []
    trusted: list[str] = []
    taking = False
    for position, word in enumerate(words):
        if word == "--trust" or word.startswith("--trust="):
            taking, value = True, word.partition("=")[2]
            if not value and words[position + 1 : position + 2] in ([], ["--trust"]):
                raise UsageError("--trust needs the name of a module, such as --trust my_file")
        elif taking and not word.startswith("-") and (words[position - 1] == "--trust" or _is_module(word)):
            value = word
        else:
            left.append(word)
            taking = False
            continue
        for name in filter(None, re.split(r"[\s,\[\]'\"]+", value)):
            if name.endswith(".py"):
                raise UsageError(f"--trust {name}: the module in that file goes by {Path(name).stem}")
            if not all(map(str.isidentifier, name.split("."))):
                raise UsageError(f"--trust {name}: that is no name of a module, such as my_file")
            trusted.append(name)
    return left, tuple(trusted)


def _is_module(word: str) -> bool:
    return all(map(str.isidentifier, word.split("."))) and not Path(word).exists()


class _Formatter(jsonargparse.DefaultHelpFormatter, argparse.RawDescriptionHelpFormatter):
    pass


def _no_class(name: str) -> str:
    names = [name for package in _NAMESPACES for name in getattr(package, "__all__", vars(package))]
    close = difflib.get_close_matches(name, names, n=1)
    hint = f"did you mean {close[0]!r}" if close else "`ppl-vae list` names what there is"
    return f"no class is called {name!r}: {hint}; a class of yours goes by its path, such as my_file.MyClass"


def add_data(parser: Parser, default: str | None = "digits") -> None:
    """`--data` and the options of `data.load`; without a default, the run's own data is meant."""
    group = parser.add_argument_group("the data")
    group.add_argument(
        "--data",
        type=str | None,
        default=default,
        help="a name from `ppl-vae list data`, or a path: .npz, .npy, .csv, .parquet, a folder of images"
        + ("" if default else "; by default what the run was trained on"),
    )
    group.add_function_arguments(data.load, "load", skip={"name_or_path"}, as_group=False)


def load_data(options: jsonargparse.Namespace) -> data.DataSet:
    """The data set that `--data` and `--load.*` describe."""
    return data.load(options.data, **vars(options.load))


def add_pair(parser: Parser) -> None:
    """`--model`, `--guide` and the options of the default pair."""
    group = parser.add_argument_group(
        "the pair: by default a VAE with a mean-field guide, fitted to the data"
    )
    group.add_argument(
        "--model",
        type=nn.Module | None,
        default=None,
        help="the generative model's class; --model.ARGUMENT for its arguments",
    )
    group.add_argument(
        "--guide",
        type=nn.Module | None,
        default=None,
        help="the guide's class; --guide.ARGUMENT for its arguments",
    )
    group.add_function_arguments(make_pair, "pair", skip={"dataset", "model", "guide"}, as_group=False)


def build(
    parser: Parser, options: jsonargparse.Namespace, dataset: data.DataSet, seed: int = 0
) -> tuple[Pair, jsonargparse.Namespace]:
    """The pair that the options describe, its initial weights from the seed, and the other objects."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        built = parser.build(options)
        return make_pair(dataset, built.model, built.guide, **vars(built.pair)), built


def add_estimator(parser: Parser) -> None:
    """`--estimator`: ours by name, Pyro's by class path."""
    group = parser.add_argument_group("the bound")
    group.add_argument(
        "--estimator",
        type=PyroELBO,
        default=jsonargparse.lazy_instance(estimators.MeanFieldELBO),
        help="a name from `ppl-vae list estimators`, or a class path such as pyro.infer.Trace_ELBO; with few "
        "labels EnumeratedELBO is the default",
    )
