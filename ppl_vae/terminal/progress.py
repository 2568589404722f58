"""Progress: a bar on a terminal and in a notebook, and elsewhere a line now and then."""

from __future__ import annotations

import math
import sys
import time
from types import TracebackType
from typing import Any, Protocol

import numpy as np
import tqdm.asyncio
import tqdm.auto

SECONDS = 10.0
"""At least so long from one line to the next."""


class Progress(Protocol):
    """What a loop tells of itself."""

    def update(self, n: int = 1) -> None:
        """`n` units more are done."""

    def describe(self, text: str) -> None:
        """What stands after the bar from now on."""

    def line(self, text: str) -> None:
        """A milestone, such as an epoch: `describe` on a bar, and elsewhere a line, where one is due."""

    def note(self, text: str) -> None:
        """A line that stays, above a bar."""

    def close(self) -> None:
        """No more will come."""

    def __enter__(self) -> Progress: ...

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None: ...


def show_progress(
    total: int,
    description: str = "",
    unit: str = "step",
    *,
    show: bool = True,
    initial: int = 0,
    leave: bool = False,
    scale: bool = False,
    milestones: bool = False,
) -> Progress:
    """The progress of a loop over `total` units: a bar, or lines where standard error is no terminal.

    Args:
        total: units in all.
        description: stands before it.
        unit: what is counted.
        show: False shows nothing.
        initial: units that were done before.
        leave: a bar stays when it is done.
        scale: a bar counts in thousands and millions.
        milestones: the loop calls `line` itself, the first of which is due at once; else there is one
            whenever one is due.

    Raises:
        ValueError: for a `show`, which callers name progress, that is neither True nor False.
    """
    if not isinstance(show, bool | np.bool_):
        raise ValueError(f"progress must be True or False, got {show!r:.80}")
    if not show:
        return Silent()
    if not (_in_notebook() or _on_terminal()):
        return Lines(total, description, unit, initial, milestones)
    return Bar(total, description, unit, initial, leave, scale)


class Bar:
    """tqdm's bar, of the terminal's or the notebook's kind."""

    def __init__(
        self, total: int, description: str, unit: str, initial: int, leave: bool, scale: bool
    ) -> None:
        unit = f" {unit}" if scale else unit  # tqdm writes "12.0M draws" and "3/10step"
        self._bar: Any = tqdm.auto.tqdm(
            total=total, desc=description or None, unit=unit, unit_scale=scale, initial=initial, leave=leave,
            mininterval=0.2,
        )  # fmt: skip

    def update(self, n: int = 1) -> None:
        self._bar.update(n)

    def describe(self, text: str) -> None:
        self._bar.set_postfix_str(text)

    def line(self, text: str) -> None:
        self._bar.set_postfix_str(text)

    def note(self, text: str) -> None:
        if not self._bar.disable:
            self._bar.write(text, file=sys.stderr)

    def close(self) -> None:
        self._bar.close()

    def __enter__(self) -> Bar:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


class Silent:
    """Nothing is shown; not a bar of tqdm's, whose lock between processes outlives a worker that is ended."""

    def update(self, n: int = 1) -> None: ...
    def describe(self, text: str) -> None: ...
    def line(self, text: str) -> None: ...
    def note(self, text: str) -> None: ...
    def close(self) -> None: ...

    def __enter__(self) -> Silent:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None: ...


class Lines:
    """Whole lines on standard error, one in `SECONDS` at most, for logs."""

    def __init__(self, total: int, description: str, unit: str, initial: int, milestones: bool) -> None:
        self.total, self.description, self.unit = total, description, unit
        self.done, self.text, self.milestones = initial, "", milestones
        self._last = -math.inf if milestones else time.monotonic()

    def update(self, n: int = 1) -> None:
        self.done += n
        if not self.milestones and self._due():
            share = f"{self.done / max(1, self.total):.0%} of {self.total:,} {self.unit}"
            self._write(", ".join(filter(None, [share, self.text])))

    def describe(self, text: str) -> None:
        self.text = text

    def line(self, text: str) -> None:
        self.text = text
        if self._due():
            self._write(text)

    def note(self, text: str) -> None:
        print(text, file=sys.stderr, flush=True)

    def close(self) -> None:
        """Nothing is left to be written."""

    def _due(self) -> bool:
        return time.monotonic() - self._last >= SECONDS

    def _write(self, text: str) -> None:
        self._last = time.monotonic()
        print(f"{self.description}: {text}" if self.description else text, file=sys.stderr, flush=True)

    def __enter__(self) -> Lines:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def _on_terminal() -> bool:
    try:
        return sys.stderr.isatty()
    except (AttributeError, ValueError):  # pythonw has no standard error, and a closed one does not answer
        return False


def _in_notebook() -> bool:
    # tqdm looks for a Jupyter kernel as it is imported, and has another class there
    return tqdm.auto.tqdm is not tqdm.asyncio.tqdm
