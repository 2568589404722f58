"""`ppl-vae list`: what there is, read from the packages themselves."""

from __future__ import annotations

import importlib.util
import inspect
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from types import ModuleType

from pyro.infer import ELBO as PyroELBO
from torch import nn

import ppl_vae.kl
from ppl_vae import estimators, guides, likelihoods, models, nets, penalties, priors
from ppl_vae.cli import OK
from ppl_vae.cli.errors import UsageError
from ppl_vae.data.named import NAMED
from ppl_vae.kl.treatment import HasPenalty
from ppl_vae.train.loggers import LOGGERS
from ppl_vae.train.optimizers import OPTIMIZERS, SCHEDULES

Lines = Iterator[tuple[str, str]]


def _classes(package: ModuleType, kind: type = nn.Module) -> Lines:
    """The classes of a kind that can be given on the command line."""
    for name in getattr(package, "__all__", vars(package)):
        found = getattr(package, name)
        protocol = getattr(found, "_is_protocol", False)
        if not inspect.isclass(found) or inspect.isabstract(found) or protocol:
            continue
        if found.__module__.startswith("ppl_vae.") and issubclass(found, kind):
            yield name, _summary(found)


def _named(things: Mapping[str, object]) -> Lines:
    for name, thing in things.items():
        yield name, _summary(thing)


def _summary(thing: object) -> str:
    """The first paragraph of a docstring, which is one sentence."""
    return " ".join((inspect.getdoc(thing) or "").split("\n\n")[0].split())


def _missing(package: str) -> str:
    there = importlib.util.find_spec(package) is not None
    return "" if there else f" (not installed: pip install 'ppl_vae[{package}]')"


KINDS: dict[str, Callable[[], Lines]] = {
    "models": lambda: _classes(models),
    "guides": lambda: _classes(guides),
    "priors": lambda: _classes(priors),
    "nets": lambda: _classes(nets),
    "likelihoods": lambda: _classes(likelihoods),
    "estimators": lambda: _classes(estimators, PyroELBO),
    "kl": lambda: ((name, line) for name, line in _classes(ppl_vae.kl, ppl_vae.kl.KLWeight)),
    "penalties": lambda: _classes(penalties, HasPenalty),
    "data": lambda: ((name, known.summary) for name, known in NAMED.items()),
    "optimizers": lambda: _named(OPTIMIZERS),
    "schedules": lambda: _named(SCHEDULES),
    "loggers": lambda: ((name, f"{line}{_missing(name)}") for name, line in _named(LOGGERS)),
}

HELP = f"""usage: ppl-vae list [KIND ...]

What there is, each with a line about it. KIND: {", ".join(KINDS)}.
Estimators of Pyro's and classes of yours go by their path: pyro.infer.Trace_ELBO, my_file.MyModel.
"""


def run(words: Sequence[str]) -> int:
    """Print the kinds that the words name, or all."""
    if "-h" in words or "--help" in words:
        print(HELP, end="")
        return OK
    if unknown := [word for word in words if word not in KINDS]:
        raise UsageError(f"there is no kind {unknown[0]!r}: the kinds are {', '.join(KINDS)}")
    for kind in words or KINDS:
        lines = list(KINDS[kind]())
        width = max(len(name) for name, _ in lines)
        print(
            kind, *(f"  {name:<{width}}  {line}".rstrip() for name, line in lines), sep="\n", file=sys.stdout
        )
    return OK
