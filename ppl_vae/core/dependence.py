"""Dependence: which arguments a model reads the values of,
found by running it on other values of the same shape.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from pyro import poutine
from pyro.poutine.messenger import Messenger
from pyro.poutine.trace_struct import Trace
from torch import Tensor, nn

from ppl_vae.core.isolation import questioning, validation
from ppl_vae.core.sites import Program, Uncondition, is_bookkeeping
from ppl_vae.core.subsampling import whole_plate

_TOLERANCE = 1e-5


@dataclass(frozen=True)
class Reading:
    """What the values of one argument do in a model, beside its shape.

    Attributes:
        argument: its position.
        data_of: the observed sites whose data it is.
        moves: the sites whose distribution changes with it, each with "prior" or "likelihood"; all sites at
            fixed values. None where the model fails on other values.
    """

    argument: int
    data_of: tuple[str, ...]
    moves: Mapping[str, str] | None

    @property
    def matters(self) -> bool:
        """Whether the model reads the values other than as a site's data."""
        return self.moves is None or bool(self.moves)

    def in_words(self) -> str:
        """What changes with the values."""
        if self.moves is None:
            return "it fails on others, such as zeros"
        return (
            " and ".join(f"the {kind} of site {site!r}" for site, kind in self.moves.items())
            + " changes with them"
        )


def readings(program: nn.Module, batch: Sequence[Tensor], device: torch.device) -> list[Reading]:
    """How a model reads each of its arguments, by comparing its sites' densities on other values of the
    argument.

    The sites keep values that the model has drawn, so that an argument which only serves as `obs=` changes
    nothing. The other values are the batch's rows in another order, zeros, ones and fractions.

    Args:
        program: the model.
        batch: what it is called with.
        device: where it runs.

    Returns:
        One for each argument; none where the model does not run on the batch.
    """
    with questioning(program, 0, device), validation(False):
        try:
            given = _run(program, batch, {})
            base = _run(Uncondition()(program), batch, {})
            model = _Model(program, given, base, _densities(base, _values(base)))
        except Exception:
            return []  # the caller's own run says why
        return [model.reading(tuple(batch), argument) for argument in range(len(batch))]


@dataclass(frozen=True)
class _Model:
    """A model's sites on one batch: as they are, unconditioned, and the densities of what was drawn there."""

    program: nn.Module
    given: Mapping[str, Any]
    base: Mapping[str, Any]
    densities: Mapping[str, Tensor]

    def reading(self, batch: tuple[Tensor, ...], argument: int) -> Reading:
        data_of: set[str] = set()
        moves: dict[str, str] = {}
        for other, may_fail in _others(batch[argument]):
            changed = (*batch[:argument], other, *batch[argument + 1 :])
            try:
                moves |= self._moves(changed)
                data_of |= self._data(changed)
            except Exception:
                if not may_fail:
                    return Reading(argument, tuple(sorted(data_of)), None)
        return Reading(argument, tuple(sorted(data_of)), moves)

    def _moves(self, changed: tuple[Tensor, ...]) -> dict[str, str]:
        """The sites whose density of the same values is another one."""
        held = _run(Uncondition()(self.program), changed, _values(self.base))
        now = _densities(held, _values(self.base))
        names = [*self.densities, *(name for name in held if name not in self.densities)]
        return {
            name: "likelihood" if "was_observed" in (held.get(name) or self.base[name])["infer"] else "prior"
            for name in names
            if name not in now or name not in self.densities or not _same(now[name], self.densities[name])
        }

    def _data(self, changed: tuple[Tensor, ...]) -> set[str]:
        """The observed sites whose data are other ones."""
        latent = {name: site["value"] for name, site in self.given.items() if not site["is_observed"]}
        seen = _run(self.program, changed, latent)
        return {
            name
            for name, site in seen.items()
            if site["is_observed"]
            and (name not in self.given or not _same(site["value"], self.given[name]["value"]))
        }


class _Held(Messenger):
    """Sites at given values, whether they are observed or not."""

    def __init__(self, values: Mapping[str, Any]) -> None:
        super().__init__()
        self.values = values

    def _pyro_sample(self, msg: Any) -> None:
        if msg["name"] in self.values and not is_bookkeeping(msg):
            msg["value"] = self.values[msg["name"]]


def _run(program: Program, batch: Sequence[Tensor], values: Mapping[str, Any]) -> dict[str, Any]:
    with whole_plate(len(batch[0])):
        trace: Trace = poutine.trace(_Held(values)(program)).get_trace(*batch)
    return {n: s for n, s in trace.nodes.items() if s["type"] == "sample" and not is_bookkeeping(s)}


def _densities(sites: Mapping[str, Any], values: Mapping[str, Any]) -> dict[str, Tensor]:
    return {
        name: torch.as_tensor(site["fn"].log_prob(values[name], *site["args"], **site["kwargs"]))
        for name, site in sites.items()
        if name in values
    }


def _others(tensor: Tensor) -> Iterator[tuple[Tensor, bool]]:
    """Other values of the same shape and type, and whether a program may refuse them for their range."""
    if tensor.dim() and len(tensor) > 1:
        yield tensor.roll(1, 0), False
    yield torch.zeros_like(tensor), False
    yield torch.ones_like(tensor), True
    if tensor.is_floating_point():
        generator = torch.Generator().manual_seed(0)
        yield torch.rand(tensor.shape, generator=generator, dtype=torch.float32).to(tensor), True


def _same(first: Any, second: Any) -> bool:
    if not isinstance(first, Tensor) or not isinstance(second, Tensor):
        return first is second
    if first.shape != second.shape:
        return False
    if not first.is_floating_point():
        return torch.equal(first, second)
    return torch.allclose(first, second, rtol=_TOLERANCE, atol=_TOLERANCE, equal_nan=True)


def _values(sites: Mapping[str, Any]) -> dict[str, Any]:
    return {name: site["value"] for name, site in sites.items()}
