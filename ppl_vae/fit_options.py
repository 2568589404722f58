"""`fit`'s options, checked before anything is done: of the right kind, in range, and none that would have no effect."""

from __future__ import annotations

import inspect
import math
import numbers
import re
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from pyro.infer import ELBO as PyroELBO

from ppl_vae.data import DataSet
from ppl_vae.loggers import check_loggers
from ppl_vae.optimizers import check_optimizer, make_schedule

_MAX_SEED = 2**63 - 1


def check_options(options: Mapping[str, Any], defaults: Mapping[str, Any]) -> None:
    """Refuse options of `fit` that are wrong, or that would do nothing beside the others.

    Args:
        options: all of them, by name.
        defaults: those that nobody chose.

    Raises:
        ValueError: names the option, its value, and the fix.
        ImportError: for a logger that is not installed.
    """
    for name in ("epochs", "batch_size", "validate_every", "checkpoint_every"):
        check_count(name, options[name])
    if options["patience"] is not None:
        check_count("patience", options["patience"], "or None")
    check_seed(options["seed"])
    check_real("learning_rate", options["learning_rate"], above=True)
    if options["weight_decay"] is not None:
        check_real("weight_decay", options["weight_decay"])
    if options["clip_norm"] is not None:
        check_real("clip_norm", options["clip_norm"], above=True)
    for name in ("resume", "progress", "check"):
        if not isinstance(options[name], bool):
            raise ValueError(f"{name} must be True or False, got {options[name]!r}")
    for name, allowed in (
        ("capture", (True, False, "auto")),
        ("matmul_precision", ("float32", "bf16")),
        ("precision", ("auto", "float32", "bf16")),
    ):
        if not any(type(options[name]) is type(each) and options[name] == each for each in allowed):
            raise ValueError(f"{name} must be one of {', '.join(map(repr, allowed))}, got {options[name]!r}")
    if not isinstance(options["estimator"], PyroELBO):
        shown = repr(options["estimator"])
        if len(shown) > 80:
            shown = f"an object of type {type(options['estimator']).__name__}"
        raise ValueError(
            f"estimator must be an object such as estimators.IWAE(num_particles=10) or "
            f"pyro.infer.Trace_ELBO(), got {shown}: fit(pair, estimator, data)"
        )
    check_device(options["device"])
    check_optimizer(options["optimizer"], options["weight_decay"])
    make_schedule(options["schedule"])
    check_loggers(options["loggers"])
    _check_effect(options, defaults)


def _check_effect(options: Mapping[str, Any], defaults: Mapping[str, Any]) -> None:
    """Refuse what was chosen and would do nothing."""
    chosen = {name for name in defaults if options[name] != defaults[name]}
    if options["matmul_precision"] == "bf16" and options["capture"] is not True:
        raise ValueError("matmul_precision='bf16' is for captured steps alone: give capture=True too")
    if options["run_dir"] is None:
        if options["resume"]:
            raise ValueError("resume=True needs the run's folder: fit(..., run_dir='runs/name', resume=True)")
        if "checkpoint_every" in chosen:
            raise ValueError(
                f"checkpoint_every={options['checkpoint_every']!r} does nothing without a folder for the "
                f"checkpoints: give run_dir='runs/name' too, or leave it out"
            )
        if options["loggers"]:
            raise ValueError(
                f"the loggers {_named(options['loggers'])} need a run folder: fit(..., run_dir='runs/name')"
            )
    data = options["data"]
    if not isinstance(data, DataSet) or data.valid is None or not len(data.valid):
        for name in ("patience", "validate_every"):
            if name in chosen:
                raise ValueError(
                    f"{name}={options[name]!r} does nothing without validation data: give a DataSet with a valid "
                    f"part, such as data.from_tensors(x), or leave {name} out"
                )
    if options["fabric"] is not None and "device" in chosen:
        raise ValueError(
            f"device={options['device']!r} does nothing beside fabric=..., which has its own: leave one of them out"
        )
    plugin: Any = getattr(getattr(options["fabric"], "strategy", None), "precision", None)
    if getattr(plugin, "precision", "32-true") not in ("32-true", 32, "32"):
        raise ValueError(
            f"the fabric's own precision, {plugin.precision!r}, would reach the log-probabilities: make it with "
            f"precision='32-true', and give fit precision='bf16'"
        )


def check_count(name: str, value: Any, otherwise: str = "", least: int = 1) -> None:
    """Raise ValueError unless an option is a whole number from `least` on."""
    if isinstance(value, bool) or not isinstance(value, numbers.Integral) or value < least:
        said = "a positive whole number" if least == 1 else f"a whole number >= {least}"
        raise ValueError(f"{name} must be {said}{otherwise and ' '}{otherwise}, got {value!r}")


def check_seed(seed: Any, name: str = "seed") -> None:
    """Raise ValueError unless a seed is a whole number that torch takes."""
    if isinstance(seed, bool) or not isinstance(seed, numbers.Integral) or not 0 <= int(seed) <= _MAX_SEED:
        raise ValueError(f"{name} must be a whole number from 0 to 2**63 - 1, got {seed!r}")


def check_real(name: str, value: Any, *, above: bool = False) -> None:
    """Raise ValueError unless an option is a finite number, positive (`above`) or not negative."""
    fits = isinstance(value, numbers.Real) and not isinstance(value, bool) and math.isfinite(value)
    if not fits or not (value > 0 if above else value >= 0):
        raise ValueError(f"{name} must be {'positive' if above else '>= 0'} and finite, got {value!r}")


def check_device(device: Any) -> None:
    """Raise ValueError unless `device` names a kind of device, with a number or without."""
    if not isinstance(device, torch.device) and not (
        isinstance(device, str) and re.fullmatch(r"[a-z]+(:\d+)?", device)
    ):
        raise ValueError(
            f"device must be 'auto', 'cpu', 'cuda', 'cuda:1', 'mps' or a torch.device, got {device!r}"
        )


def defaults_of(function: Any) -> dict[str, Any]:
    """The arguments of a function that have a default, and it."""
    parameters = inspect.signature(function).parameters.values()
    return {each.name: each.default for each in parameters if each.default is not each.empty}


def _named(loggers: str | Sequence[str]) -> list[str]:
    return [loggers] if isinstance(loggers, str) else list(loggers)
