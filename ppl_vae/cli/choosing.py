"""What is chosen by words: values of the model's arguments and latents to draw at, and functions by path."""

from __future__ import annotations

import importlib
from collections.abc import Mapping, Sequence
from typing import Any

import torch

from ppl_vae import queries
from ppl_vae.cli.errors import UsageError
from ppl_vae.core.isolation import questioning
from ppl_vae.core.pair import Pair
from ppl_vae.core.sites import Site, Uncondition, data_frame
from ppl_vae.queries import Draws
from ppl_vae.queries.handlers import latent_sites, run


def as_inputs(words: Sequence[str]) -> list[str]:
    """`--inputs.y 3` for `--given y=3`, which may name several: `--given y=3 age=0.5`.

    Raises:
        UsageError: for what is no name with a value.

    >>> as_inputs(["runs/mine", "--given", "y=3", "age=0.5", "--num", "9"])
    ['runs/mine', '--inputs.y', '3', '--inputs.age', '0.5', '--num', '9']
    """
    done: list[str] = []
    taking = False
    for word in words:
        if word == "--given" or word.startswith("--given="):
            taking, word = True, word.removeprefix("--given").removeprefix("=")
            if not word:
                continue
        elif word.startswith("-"):
            taking = False
        if not taking:
            done.append(word)
            continue
        name, equals, value = word.partition("=")
        if not (name.isidentifier() and equals and value):
            raise UsageError(f"--given {word}: write a name and its value, such as --given y=3")
        done += [f"--inputs.{name}", value]
    return done


def imported(path: str, option: str) -> Any:
    """The function or class at a path that stands in the command's own words.

    Raises:
        UsageError: when there is none.
    """
    module, _, name = path.rpartition(".")
    try:
        return getattr(importlib.import_module(module), name)
    except (ImportError, AttributeError) as error:
        raise UsageError(
            f"{option} {path}: {error}; give a name or the path of a function or class"
        ) from error


def draw(pair: Pair, num: int, chosen: Mapping[str, Any], seed: int) -> Draws:
    """Samples given values by name: of the model's arguments, or of its latents, which are not drawn then.

    Raises:
        ValueError: as `queries.sample` and `queries.decode`.
    """
    values = {name: torch.as_tensor(value) for name, value in chosen.items()}
    sites: Mapping[str, Site] = {}
    if values:
        with questioning(pair, seed, pair.device):
            sites = latent_sites(run(pair.model, pair.blank_batch(1), Uncondition()))
    inputs = {name: value for name, value in values.items() if name not in sites} or None
    latents = {name: value for name, value in values.items() if name in sites}
    if not latents:
        return queries.sample(pair, num, inputs=inputs, seed=seed)
    for name, value in latents.items():
        if value.shape == sites[name]["fn"].event_shape and data_frame(sites[name]) is not None:
            latents[name] = value.expand(num, *value.shape)
    return queries.decode(pair, latents, inputs=inputs, seed=seed)
