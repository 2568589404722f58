"""The estimators of a comparison: names, and for each how one with K particles is made."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

from pyro.infer import ELBO as PyroELBO

from ppl_vae.core.checks import check_several

# how Pyro's estimators work, and not what they estimate
_MECHANICS = ("vectorize_particles", "max_plate_nesting", "strict_enumeration_warning", "retain_graph")

Factory = Callable[[int], PyroELBO]
Given: TypeAlias = PyroELBO | type[PyroELBO] | Factory
Estimators: TypeAlias = Mapping[str, Given] | Sequence[Given]


@dataclass(frozen=True)
class Family:
    """One estimator for every K, or for its own K alone.

    Attributes:
        make: K to an estimator.
        only: the K that it has, where it has no other.
    """

    name: str
    make: Factory
    only: int | None = None


def families(estimators: Estimators) -> list[Family]:
    """The estimators as functions of K, by name.

    A class is called with `num_particles=K`, a function with K. An object is made again with
    `num_particles=K` and its other constructor arguments; one without that argument (`MIWAE(8, 8)`)
    keeps its own K. Objects that differ in K alone are one family.

    Raises:
        ValueError: for no estimators, or two of one name.
        TypeError: for what is no estimator and makes none.

    >>> from ppl_vae.estimators import DReG, IWAE
    >>> [family.name for family in families([IWAE, DReG(alpha=0.5), IWAE(10)])]
    ['IWAE', 'DReG(alpha=0.5)']
    """
    found: dict[str, tuple[Any, Family]] = {}
    for name, given in _named(estimators, label):
        recipe, family = _family(name, given)
        same = next(
            (old for old, (other, _) in found.items() if recipe is not None and other == recipe), None
        )
        if same is not None:
            continue
        if name in found:
            raise ValueError(f"two estimators are called {name!r}: give a mapping of names to estimators")
        found[name] = (recipe, family)
    return [family for _, family in found.values()]


def objects(estimators: Estimators) -> dict[str, PyroELBO]:
    """The estimators as objects, by name; a class is called without arguments.

    Raises:
        ValueError: for no estimators, or two of one name.
        TypeError: for what is no estimator, such as a function of K.

    >>> from ppl_vae.estimators import IWAE
    >>> objects([IWAE(5), IWAE(50)])
    {'IWAE(5)': IWAE(num_particles=5), 'IWAE(50)': IWAE(num_particles=50)}
    """
    made: dict[str, PyroELBO] = {}
    for name, given in _named(estimators, lambda given: label(given, with_particles=True)):
        if isinstance(given, type):
            given = given()
        if not isinstance(given, PyroELBO):
            raise TypeError(
                f"{name!r}: training needs an estimator such as estimators.IWAE(10), got {given!r}"
            )
        if name in made:
            raise ValueError(f"two estimators are called {name!r}: give a mapping of names to estimators")
        made[name] = given
    return made


def label(given: Any, with_particles: bool = False) -> str:
    """A short name: the class and the arguments that are not its defaults."""
    if isinstance(given, type) or not isinstance(given, PyroELBO):
        return str(getattr(given, "__name__", repr(given)))
    arguments = _arguments(given) or {}
    defaults = {name: p.default for name, p in inspect.signature(type(given)).parameters.items()}
    shown = [
        f"{name}={_plain(value)}"
        for name, value in arguments.items()
        if name not in ("num_particles", *_MECHANICS) and _differs(value, defaults[name])
    ]
    if "num_particles" not in defaults and list(arguments) == list(defaults):
        return f"{type(given).__name__}({', '.join(_plain(value) for value in arguments.values())})"
    if with_particles and "num_particles" in defaults:
        # as one would write it: K alone where it comes first, or where nothing else is said
        first = not shown or next(iter(defaults)) == "num_particles"
        shown.insert(0 if first else len(shown), f"{'' if first else 'num_particles='}{given.num_particles}")
    return f"{type(given).__name__}({', '.join(shown)})" if shown else type(given).__name__


def _differs(value: Any, default: Any) -> bool:
    return default is inspect.Parameter.empty or (value is not default and value != default)


def _plain(value: Any) -> str:
    return repr(value) if isinstance(value, str | int | float | bool | None) else type(value).__name__


def _named(estimators: Estimators, name_of: Callable[[Any], str]) -> list[tuple[str, Given]]:
    if isinstance(estimators, Mapping):
        named = list(estimators.items())
    else:
        if not isinstance(estimators, PyroELBO | type):
            check_several("estimators", estimators)
        listed = [estimators] if isinstance(estimators, PyroELBO | type) else list(estimators)
        named = [(name_of(given), given) for given in listed]
    if not named:
        raise ValueError(
            "there are no estimators to compare: give for instance [estimators.ELBO, estimators.IWAE]"
        )
    for name, given in named:
        if not (isinstance(given, PyroELBO) or callable(given)):
            raise TypeError(
                f"{name!r}: expected an estimator, its class, or a function of K to one, got {given!r}"
            )
    return named


def _family(name: str, given: Given) -> tuple[Any, Family]:
    """A family, and what it is made from where that can be compared with others'."""
    if isinstance(given, type):
        if "num_particles" not in inspect.signature(given).parameters:
            raise TypeError(
                f"{name!r}: {given.__name__} takes no num_particles, so say what K is: "
                f"{{{name!r}: lambda K: {given.__name__}(...)}}"
            )
        if not _is_pyros(given):
            return (given, {}), Family(name, lambda K: given(num_particles=K))
        return (given, {}), Family(name, lambda K: given(num_particles=K, vectorize_particles=True))
    if not isinstance(given, PyroELBO):
        return None, Family(name, given)
    arguments = _arguments(given)
    if arguments is None or "num_particles" not in arguments:
        return None, Family(name, lambda K: given, only=given.num_particles)
    others = {key: value for key, value in arguments.items() if key != "num_particles"}
    defaults = inspect.signature(type(given)).parameters
    chosen = {
        key: value
        for key, value in others.items()
        if key not in _MECHANICS and _differs(value, defaults[key].default)
    }
    recipe = (type(given), {key: repr(value) for key, value in chosen.items()})
    return recipe, Family(name, lambda K: type(given)(num_particles=K, **others))


def _is_pyros(kind: type) -> bool:
    return kind.__module__.startswith("pyro.")


def _arguments(estimator: PyroELBO) -> dict[str, Any] | None:
    """The constructor arguments, read from the attributes of the same names; None where some are missing."""
    names = [
        name
        for name, p in inspect.signature(type(estimator)).parameters.items()
        if p.kind not in (p.VAR_POSITIONAL, p.VAR_KEYWORD) and name != "max_iarange_nesting"
    ]
    if not all(hasattr(estimator, name) for name in names):
        return None
    arguments = {name: getattr(estimator, name) for name in names}
    if arguments.get("num_sleep_particles") == arguments.get("num_particles"):
        arguments.pop("num_sleep_particles", None)  # Pyro's ReweightedWakeSleep takes K where it is not given
    return arguments
