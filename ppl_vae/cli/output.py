"""The command's output where nobody may read it to the end."""

from __future__ import annotations

import contextlib
import os
from typing import Any, TextIO


class WhileRead:
    """A stream that may lose its reader (`ppl-vae train ... | head`): then it writes nowhere, and the work goes on."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream

    def write(self, text: str) -> int:
        """Write, where somebody still reads."""
        with self._may_break():
            self._stream.write(text)
        return len(text)

    def flush(self) -> None:
        """Flush, where somebody still reads."""
        with self._may_break():
            self._stream.flush()

    @contextlib.contextmanager
    def _may_break(self) -> Any:
        try:
            yield
        except BrokenPipeError:
            nowhere = open(os.devnull, "w")  # noqa: SIM115  it is the stream from now on
            with contextlib.suppress(OSError, ValueError):  # the interpreter flushes the old one at its end
                os.dup2(nowhere.fileno(), self._stream.fileno())
            self._stream = nowhere

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)
