"""A module as a config tree, and back: what makes a run's folder enough to rebuild its pair."""

from __future__ import annotations

import inspect
import numbers
import re
import sys
from collections.abc import Iterable, Mapping
from typing import Any, get_type_hints

import numpy as np
from torch import Tensor, nn

from ppl_vae.core.program import ProgramModule
from ppl_vae.runs.annotations import cast_to, readable
from ppl_vae.runs.naming import is_local
from ppl_vae.runs.trust import MODULES, ConfigError, find

Tree = dict[str, Any]

_TORCH = "torch.nn.modules"
_CONVENTION = "store each constructor argument, unmodified, under an attribute of the same name"


def describe(module: nn.Module, seen: dict[nn.Module, Tree] | None = None) -> Tree:
    r"""Write a module as plain values: its class and the arguments that it was constructed with.

    The arguments are read from the attributes of the same names, tuples become lists, modules among
    the arguments become trees themselves. A module that occurs twice gives the same dict twice, so
    that YAML writes an anchor and an alias and `build` shares the module again.

    Args:
        module: follows the constructor convention, or is one of torch.nn's own.
        seen: trees by module; fill one dict in several calls to share modules between them.

    Raises:
        ConfigError: for a class that cannot be imported elsewhere (a notebook's, a script's, a
            function's), or that does not follow the convention; names the class and the argument.

    >>> describe(nn.Linear(2, 3))
    {'class_path': 'torch.nn.modules.linear.Linear', 'init_args': {'in_features': 2, 'out_features': 3}}
    """
    seen = {} if seen is None else seen
    if isinstance(module, ProgramModule):
        program = module.program
        return describe(program, seen) if isinstance(program, nn.Module) else _function(program)
    if module not in seen:
        init_args: Tree = {}
        seen[module] = {"class_path": _class_path(type(module)), "init_args": init_args}
        init_args.update(_init_args(module, seen))
    return seen[module]


def build(
    tree: Mapping[str, Any],
    trust: Iterable[str] = (),
    *,
    name: str = "",
    built: dict[int, nn.Module | None] | None = None,
) -> nn.Module:
    r"""Construct the module that a tree of `describe` names; no other code is imported or called.

    Args:
        tree: `{"class_path": ..., "init_args": {...}}`, as `yaml.safe_load` gives it.
        trust: modules and packages, besides ppl_vae and torch.nn, whose classes may be imported.
        name: what error messages call the tree's root.
        built: modules by the id of their tree; fill one dict in several calls to share modules.

    Raises:
        ConfigError: for a class that is not trusted or not an nn.Module, and for unknown, missing or
            wrong arguments; names the place inside the tree, such as `guide.encoder.hidden`.

    >>> build({"class_path": "torch.nn.Linear", "init_args": {"in_features": 2, "out_features": 3}})
    Linear(in_features=2, out_features=3, bias=True)
    """
    trusted = (trust,) if isinstance(trust, str) else tuple(trust)
    return _build(tree, trusted, name, {} if built is None else built)


def _function(program: Any) -> Tree:
    """A program that is a function, by its import path."""
    if not inspect.isfunction(program) or is_local(program):
        what = getattr(program, "__qualname__", type(program).__name__)
        raise ConfigError(
            f"the program {what} is a function that nothing else can import (a method, one inside of "
            "another, of a notebook or a script, or within handlers): define it at the top level of a file"
        )
    return {"function": f"{program.__module__}.{program.__qualname__}"}


def _class_path(cls: type) -> str:
    path = f"{cls.__module__}.{cls.__qualname__}"
    if cls.__module__ in ("__main__", "__mp_main__") or "<locals>" in path:
        place = "a function" if "<locals>" in path else "a notebook or a script"
        raise ConfigError(
            f"class {cls.__qualname__} is defined in {place}, where nothing else can import it: move it "
            f"to the top level of a file of its own and import it from there"
        )
    found: Any = sys.modules.get(cls.__module__)
    for part in cls.__qualname__.split("."):
        found = getattr(found, part, None)
    if not isinstance(found, type):
        raise ConfigError(
            f"class {cls.__qualname__} cannot be imported as {path}: define it under that name at the "
            f"top level of a file"
        )
    return path


def _init_args(module: nn.Module, seen: dict[nn.Module, Tree]) -> Tree:
    cls = type(module)
    if isinstance(module, nn.Sequential) and cls.__init__ is nn.Sequential.__init__:
        names = [name for name, _ in module.named_children()]
        if any(not name.isdigit() for name in names):
            raise ConfigError(
                f"{cls.__name__} has named layers {names}, which a config cannot hold: pass the layers "
                f"as positional arguments"
            )
        return {"args": [describe(layer, seen) for layer in module]}
    torch_own = cls.__module__.startswith(_TORCH)
    init_args = {}
    for name, parameter in _parameters(cls).items():
        if torch_own and (name in ("device", "dtype") or name.startswith("_")):
            continue  # the weights file decides the dtype and the caller of `load` the device
        if parameter.kind in (parameter.VAR_POSITIONAL, parameter.VAR_KEYWORD):
            raise ConfigError(
                f"{cls.__name__} takes {parameter}, which no config can name: give each argument of "
                f"its constructor a name"
            )
        try:
            value = getattr(module, name)
        except Exception:  # a user's property may raise anything, and must not end a run
            raise ConfigError(
                f"{cls.__name__} has no attribute {name!r} for its constructor argument {name!r}: "
                f"{_CONVENTION}, self.{name} = {name}"
            ) from None
        if torch_own:
            if name == "bias":  # torch keeps the parameter under the name of the switch
                value = value is not None and value is not False
            if value is parameter.default or value == parameter.default:
                continue  # so that another version of torch reads the config
        init_args[name] = _plain(value, f"argument {name!r} of {cls.__name__}", seen)
    return init_args


def _plain(value: Any, where: str, seen: dict[nn.Module, Tree]) -> Any:
    if value is None or isinstance(value, bool | np.bool_):
        return value if value is None else bool(value)
    if isinstance(value, str):
        return str.__str__(value)
    if isinstance(value, numbers.Integral):
        return int(value)
    if isinstance(value, numbers.Real):
        return float(value)
    if isinstance(value, list | tuple | nn.ModuleList):
        return [_plain(item, where, seen) for item in value]
    if isinstance(value, nn.Module):
        return describe(value, seen)
    kind = "a Tensor" if isinstance(value, Tensor) else f"of type {type(value).__name__}"
    raise ConfigError(
        f"{where} is {kind}, which a config cannot hold: take numbers, strings, bools, None, tuples of "
        f"those, or modules, and {_CONVENTION}"
    )


def _parameters(cls: type) -> dict[str, inspect.Parameter]:
    # Module's own constructor, and Identity's, have catch-alls that mean no arguments
    if cls.__init__ in (nn.Module.__init__, nn.Identity.__init__):  # type: ignore[misc]
        return {}
    parameters = inspect.signature(cls.__init__).parameters  # type: ignore[misc]
    return dict(list(parameters.items())[1:])


def _build(tree: Any, trust: tuple[str, ...], where: str, built: dict[int, nn.Module | None]) -> nn.Module:
    at = f"{where}: " if where else ""
    if not isinstance(tree, Mapping) or not isinstance(tree.get("class_path"), str):
        raise ConfigError(f"{at}expected a mapping with a class_path and init_args, got {tree!r:.80}")
    if id(tree) in built:
        module = built[id(tree)]
        if module is None:
            raise ConfigError(f"{at}{tree['class_path']} contains itself: remove the YAML alias")
        return module
    if unknown := [key for key in tree if key not in ("class_path", "init_args")]:
        raise ConfigError(f"{at}unknown keys {_names(unknown)} beside class_path and init_args")
    init_args = tree.get("init_args") or {}
    if not isinstance(init_args, Mapping):
        raise ConfigError(f"{at}init_args must be a mapping of arguments, got {init_args!r:.80}")
    built[id(tree)] = None
    cls = find(tree["class_path"], trust, MODULES, at)
    sequential = cls.__init__ is nn.Sequential.__init__  # type: ignore[misc]
    parameters = _parameters(cls)
    if unknown := [key for key in init_args if key not in parameters]:
        raise ConfigError(
            f"{at}{cls.__name__} has no argument {_names(unknown)}: it takes {_names(parameters)}"
        )
    variadic = (inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD)
    missing = [
        name
        for name, parameter in parameters.items()
        if name not in init_args and parameter.default is parameter.empty and parameter.kind not in variadic
    ]
    if missing:
        raise ConfigError(f"{at}{cls.__name__} lacks the argument {_names(missing)}: add it to init_args")
    try:
        hints = get_type_hints(cls.__init__)  # type: ignore[misc]
    except (
        NameError,
        AttributeError,
        TypeError,
    ):  # names that exist for the type checker only: nothing to check against
        hints = {}
    arguments = {}
    for name, value in init_args.items():
        inner = f"{where}.{name}" if where else name
        value = _construct(value, trust, inner, built)
        hint = tuple[nn.Module, ...] if sequential else hints.get(name, Any)
        try:
            arguments[name] = cast_to(value, hint)
        except TypeError:
            raise ConfigError(
                f"{inner}: expected {readable(hint)}, got {value!r:.80}{_advice(value)}"
            ) from None
    try:
        module = cls(*arguments.get("args", ())) if sequential else cls(**arguments)
    except Exception as error:
        raise ConfigError(f"{at}{cls.__name__} refuses its arguments: {error}") from error
    built[id(tree)] = module
    return module


def _construct(value: Any, trust: tuple[str, ...], where: str, built: dict[int, nn.Module | None]) -> Any:
    if isinstance(value, Mapping):
        return _build(value, trust, where, built)
    if isinstance(value, list | tuple):
        return tuple(_construct(item, trust, f"{where}[{i}]", built) for i, item in enumerate(value))
    if value is None or isinstance(value, bool | int | float | str):
        return value
    raise ConfigError(f"{where}: {value!r:.80} is of type {type(value).__name__}, not a plain value")


def _advice(value: Any) -> str:
    if isinstance(value, str) and re.fullmatch(r"[-+]?\d+e[-+]?\d+", value):
        return ", which YAML reads as text: write 1.0e-4 for 1e-4"
    return ""


def _names(names: Iterable[Any]) -> str:
    return ", ".join(map(repr, names)) or "no arguments"
