"""Subsampling inside the programs: which rows of a batch the `data` plate takes, and runs that take them all.

A program may be called with the data that it is about, `pyro.plate("data", N, subsample_size=len(x))`, or
with
all of the data, of which it takes some itself: `with pyro.plate("data", len(x), subsample_size=B) as index`.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from contextvars import ContextVar
from dataclasses import dataclass
from typing import Any

from pyro import poutine
from pyro.poutine.subsample_messenger import SubsampleMessenger
from torch import Tensor

from ppl_vae.core.drawing import draw
from ppl_vae.core.isolation import questioning
from ppl_vae.core.pair import Pair
from ppl_vae.core.particles import Particles
from ppl_vae.core.running import data_plate
from ppl_vae.core.sites import DATA_PLATE, PairError, Program, data_plate_of


@dataclass
class Seen:
    """What a run under `whole_plate` saw of the `data` plate, as the program wrote it."""

    rows: int
    full_size: int | None = None
    size: int | None = None
    fixed: bool = False
    only_looks: bool = False
    plate: str = DATA_PLATE

    def require_whole(self) -> None:
        """Raise PairError unless the plate has held each row."""
        if not self.fits:
            raise PairError(self.misfit())
        if self.fixed and self.size != self.rows:
            raise PairError(_fixed(self.full_size, self.size, self.plate))

    def misfit(self) -> str:
        """Why the batch does not fit the plate."""
        return _misfit(self.full_size, self.size, self.rows, self.plate)

    @property
    def subsamples(self) -> bool:
        """Whether the program takes some of the data, drawn or given."""
        return self.full_size is not None and self.size != self.full_size

    @property
    def fits(self) -> bool:
        """Whether the batch's rows are the data that the plate takes, or those that it takes them from."""
        return not self.subsamples or self.rows in (self.full_size, self.size)


class _EnoughError(Exception):
    """Leaves a program whose plate has been seen: its nets need not run."""


_seen: ContextVar[Seen | None] = ContextVar("seen", default=None)
_as_written = SubsampleMessenger._subsample


def _subsample(
    name: str, size: Any = None, subsample_size: Any = None, subsample: Any = None, *rest: Any, **options: Any
) -> Any:
    seen = _seen.get()
    if seen is not None and name == data_plate() and size is not None:
        given = subsample_size if subsample is None else len(subsample)
        seen.plate = name
        seen.full_size = int(size)
        seen.size = seen.full_size if given is None or given == -1 else int(given)
        seen.fixed = subsample is not None
        if seen.only_looks:
            raise _EnoughError
        if subsample is None and seen.rows == seen.full_size:
            subsample_size = None
    return _as_written(name, size, subsample_size, subsample, *rest, **options)


SubsampleMessenger._subsample = staticmethod(_subsample)  # type: ignore[method-assign]


@contextmanager
def whole_plate(rows: int, only_looks: bool = False) -> Iterator[Seen]:
    """Within it a `data` plate of a batch's `rows` data takes all of them, in their order.

    Raises:
        PairError: instead of another error, where the plate takes some of the data, and not of that many.
    """
    seen = Seen(rows, only_looks=only_looks)
    token = _seen.set(seen)
    try:
        yield seen
    except _EnoughError:
        pass
    except Exception as error:
        if seen.fits:
            raise
        raise PairError(seen.misfit()) from error
    finally:
        _seen.reset(token)


def draw_whole(model: Program, guide: Program, batch: Sequence[Tensor], num_particles: int = 1) -> Particles:
    """`drawing.draw` for every row of a batch, in the rows' order.

    Raises:
        PairError: also where the `data` plate does not hold each row once.
    """
    rows = len(batch[0])
    with whole_plate(rows):
        particles = draw(model, guide, tuple(batch), num_particles=num_particles)
    check_rows(particles, rows, whole=True)
    return particles


def check_rows(particles: Particles, rows: int, whole: bool = False) -> None:
    """Raise PairError unless the `data` plate holds a batch's rows,
    or takes its data from them and need not hold all.
    """
    size, full_size = particles.batch_size, round(particles.scale * particles.batch_size)
    plate = data_plate_of(particles.model_trace, particles.guide_trace)
    if size == rows or (full_size == rows and not whole):
        return
    if full_size == size:
        raise PairError(
            f"a batch of {rows} data gave log-weights for {size}: the plate {plate!r} must hold each "
            f"datum of the batch once, `pyro.plate({plate!r}, len(x), dim=-1)`"
        )
    if full_size == rows:
        raise PairError(_fixed(full_size, size, plate))
    raise PairError(_misfit(full_size, size, rows, plate))


def seen_by(pair: Pair, batch: Sequence[Tensor]) -> Seen:
    """What the pair's programs do with the `data` plate, from a run up to there,
    which may fail for another reason.
    """
    found = Seen(len(batch[0]))
    with questioning(pair, 0, pair.device):
        for program in (pair.guide, pair.model):
            # what is wrong with a program, check_pair says
            with suppress(Exception), whole_plate(found.rows, only_looks=True) as seen, poutine.block():
                program(*batch)
            if seen.subsamples or found.full_size is None:
                found = seen
    return found


def check_sizes(pair: Pair, batches: Sequence[Sequence[Tensor]], what: str) -> None:
    """Raise PairError where the `data` plate subsamples, and not what batches of these sizes hold."""
    for batch in batches:
        seen = seen_by(pair, batch)
        if seen.size is not None and seen.full_size is not None and seen.size > seen.full_size:
            raise PairError(
                f"{what}: the plate {seen.plate!r} takes {seen.size} data, but a batch has {seen.rows}: give "
                f"larger batches, without a smaller one at the end, or let the program take fewer"
            )
        if not seen.fits:
            raise PairError(f"{what}: {seen.misfit()}")


def _misfit(full_size: int | None, size: int | None, rows: int, plate: str) -> str:
    return (
        f"the plate {plate!r} takes {size} of {full_size} data, but the programs were called with "
        f"{rows} rows, which are neither. Called with all the data, of which the program takes some, write "
        f"`with pyro.plate({plate!r}, len(x), subsample_size=...) as index`; called with the data that "
        f"are taken, `pyro.plate({plate!r}, {full_size}, subsample_size=len(x))`"
    )


def _fixed(full_size: int | None, size: int | None, plate: str) -> str:
    return (
        f"the plate {plate!r} always takes the same {size} of {full_size} data, by subsample=..., so "
        f"that the others cannot be seen: let it draw them, `pyro.plate({plate!r}, len(x), "
        f"subsample_size={size})`"
    )
