"""What is public and where it is explained: the reference is made from this, and a test reads it."""

from __future__ import annotations

import ast
import importlib
import inspect
import itertools
import pkgutil
import sys
from typing import Any

import ppl_vae


def packages() -> list[str]:
    """The packages that say what they hand out, `ppl_vae` first."""
    walk = pkgutil.walk_packages(ppl_vae.__path__, "ppl_vae.")
    below = [each.name for each in walk if each.ispkg]
    return [name for name in ["ppl_vae", *below] if hasattr(importlib.import_module(name), "__all__")]


def public() -> dict[str, Any]:
    """By dotted name, the packages and all that is in their `__all__`."""
    found: dict[str, Any] = {}
    for package in packages():
        module = importlib.import_module(package)
        found[package] = module
        for name in module.__all__:
            thing = getattr(module, name)
            if not inspect.ismodule(thing):
                found[f"{package}.{name}"] = thing
    return found


def package_of(page: str) -> str | None:
    """The package that a page of the reference is about."""
    _, _, leaf = page.partition("reference/")
    name = leaf if leaf == "ppl_vae" else f"ppl_vae.{leaf}"
    return name if name in packages() else None


def exists(name: str) -> bool:
    """Whether a dotted name of ours names something; a field of a dataclass too."""
    try:
        pkgutil.resolve_name(name)
    except (ImportError, AttributeError):
        owner, _, leaf = name.rpartition(".")
        return (
            exists(owner) and leaf in getattr(pkgutil.resolve_name(owner), "__annotations__", {})
            if owner
            else False
        )
    return True


def explanation(name: str, thing: Any) -> str:
    """The docstring of a public name; of a constant, the text below its assignment."""
    if inspect.ismodule(thing) or inspect.isclass(thing) or inspect.isroutine(thing):
        return inspect.cleandoc(thing.__doc__ or "")
    package, _, leaf = name.rpartition(".")
    modules = [each for path, each in sorted(sys.modules.items()) if path.startswith(package)]
    for module in modules:
        if getattr(module, leaf, None) is thing and (text := text_below(module, leaf)):
            return text
    return ""


def text_below(module: Any, name: str) -> str:
    """The string that stands below the assignment to a name in a module; empty where there is none."""
    body = ast.parse(inspect.getsource(module)).body
    for statement, after in itertools.pairwise(body):
        targets = getattr(statement, "targets", None) or [getattr(statement, "target", None)]
        value = getattr(after, "value", None) if isinstance(after, ast.Expr) else None
        if any(getattr(target, "id", None) == name for target in targets) and isinstance(value, ast.Constant):
            return inspect.cleandoc(str(value.value))
    return ""
