"""Whose code a file may name: what is ours, torch's and Pyro's programs, and what the user trusts."""

from __future__ import annotations

import importlib
import inspect
import sys
from collections.abc import Iterable, Mapping
from typing import Any

from pyro.infer import ELBO as PyroELBO
from torch import nn
from torch.optim import Optimizer

_TORCH = "torch.nn.modules"

MODULES: Mapping[type, tuple[str, ...]] = {nn.Module: ("ppl_vae", _TORCH)}
"""What a run's configuration may name without being trusted: by the kind of class, where it is defined."""

PROGRAMS: Mapping[type, tuple[str, ...]] = {
    **MODULES,
    PyroELBO: ("ppl_vae.estimators", "pyro.infer"),
    Optimizer: ("torch.optim",),
}
"""The same for a file of options; treatments of the KL term, penalties and schedules go by `_OPTIONS`."""

_OPTIONS = ("ppl_vae.kl", "ppl_vae.penalties", "ppl_vae.train.optimizers")

# what may be imported to look at it: nothing happens when these are
_IMPORTED = ("ppl_vae", "torch.nn", "torch.optim", "pyro.infer")


class ConfigError(ValueError):
    """A module that no tree can describe, or a tree that no module fits; says where and the fix."""


class UntrustedError(ConfigError):
    """A name that stands in a file and whose code nobody said to trust."""


def find(
    path: str, trust: Iterable[str] = (), kinds: Mapping[type, tuple[str, ...]] = MODULES, at: str = ""
) -> Any:
    """The class or function of an import path that stands in a file; only code that is trusted is imported.

    Args:
        path: such as `ppl_vae.models.VAE`.
        trust: modules and packages of the user's whose code may run.
        kinds: what needs no trust: classes of these kinds that are defined in these packages.
        at: what error messages begin with.

    Raises:
        UntrustedError: for what is not trusted, before it is imported; says what would allow it.
        ConfigError: for a path that leads nowhere.
    """
    trusted = (trust,) if isinstance(trust, str) else tuple(trust)
    parts = _parts(path, at)
    if not _under(path, (*trusted, *_IMPORTED)):
        raise _untrusted(path, at)
    found = _imported(parts, at)
    if kinds is MODULES:
        _check_module(found, path, at)
    plain = not (inspect.isclass(found) or inspect.isroutine(found) or inspect.ismodule(found))
    if plain and _under(path, trusted):
        return found  # a value that a trusted file made
    if not _under(where(found), trusted) and not _allowed(found, kinds):
        if _under(path, _IMPORTED) and _under(where(found), _IMPORTED):
            raise UntrustedError(f"{at}{path} is refused: {_said(kinds)}")
        raise _untrusted(where(found), at)
    return found


def find_program(path: str, trust: Iterable[str], at: str = "") -> Any:
    """The function of an import path that stands in a file as a pair's program: one that is trusted.

    Raises:
        UntrustedError, ConfigError: as `find`.
    """
    trusted = (trust,) if isinstance(trust, str) else tuple(trust)
    parts = _parts(path, at)
    if not _under(path, trusted):
        raise _untrusted(path, at)
    found = _imported(parts, at)
    if not inspect.isfunction(found) or not _under(where(found), trusted):
        raise ConfigError(f"{at}{path} is not a function of that file")
    return found


def _parts(path: str, at: str) -> list[str]:
    parts = path.split(".")
    # a dunder part would run a second copy of a module (__init__) or a program (__main__)
    if len(parts) < 2 or not all(map(str.isidentifier, parts)) or any(p.startswith("__") for p in parts):
        raise ConfigError(f"{at}{path!r} is not a class path such as 'ppl_vae.models.VAE'")
    return parts


def where(found: Any) -> str:
    """The import path under which a class or function is defined, wherever it was found."""
    if inspect.ismodule(found):
        return f"{found.__name__}."
    owner = found if inspect.isclass(found) or inspect.isroutine(found) else type(found)
    return f"{owner.__module__}.{owner.__qualname__}"


def _check_module(found: Any, path: str, at: str) -> None:
    if not isinstance(found, type):
        raise ConfigError(f"{at}{path} is not a class: give the class path of an nn.Module")
    if not issubclass(found, nn.Module):
        raise ConfigError(f"{at}{path} is not a torch.nn.Module, so it cannot be part of a pair")


def _imported(parts: list[str], at: str) -> Any:
    for split in range(len(parts) - 1, 0, -1):
        module = ".".join(parts[:split])
        try:
            found: Any = importlib.import_module(module)
        except ModuleNotFoundError as error:
            if error.name and (module == error.name or module.startswith(error.name + ".")):
                continue
            raise ConfigError(f"{at}importing {module} fails: {error}") from error
        except Exception as error:
            raise ConfigError(f"{at}importing {module} fails: {type(error).__name__}: {error}") from error
        for part in parts[split:]:
            try:
                found = getattr(found, part)
            except AttributeError:
                if (moved := _moved(parts)) is not None:
                    return moved
                path = ".".join(parts)
                raise ConfigError(f"{at}{path} is not a class: {module} has no {part!r}") from None
        return found
    raise ConfigError(
        f"{at}there is no module {parts[0]}: start Python in the folder of that file, or put the folder "
        f"on PYTHONPATH"
    )


def _moved(parts: list[str]) -> Any:
    """A class of ours that another file has now: each room gives out its classes by name. None for none."""
    if parts[0] != "ppl_vae" or len(parts) != 4:
        return None
    return getattr(importlib.import_module(".".join(parts[:2])), parts[-1], None)


def _allowed(found: Any, kinds: Mapping[type, tuple[str, ...]]) -> bool:
    path = where(found)
    if (
        kinds is not MODULES
        and _under(path, _OPTIONS)
        and (inspect.isclass(found) or inspect.isfunction(found))
    ):
        return True
    return inspect.isclass(found) and any(
        issubclass(found, kind) and _under(path, roots) for kind, roots in kinds.items()
    )


def _under(path: str, roots: Iterable[str]) -> bool:
    return any(path.startswith(f"{root}.") for root in roots)


def _said(kinds: Mapping[type, tuple[str, ...]]) -> str:
    if kinds is MODULES:
        return "a configuration names classes of ppl_vae or torch.nn.modules that are torch.nn.Modules"
    return (
        "a file of options names modules of ppl_vae or torch.nn, estimators of ppl_vae or Pyro, "
        "torch.optim's optimizers, treatments of ppl_vae.kl and ppl_vae.penalties"
    )


def _untrusted(path: str, at: str) -> UntrustedError:
    top = path.split(".")[0]
    if top in sys.stdlib_module_names or top in ("torch", "builtins"):
        return UntrustedError(
            f"{at}{path.rstrip('.')} is refused: it is no module of ppl_vae or torch.nn.modules"
        )
    return UntrustedError(
        f"{at}{path.rstrip('.')} is not part of ppl_vae, and to import it runs its code: pass "
        f"trust=({top!r},) if you trust its author"
    )
