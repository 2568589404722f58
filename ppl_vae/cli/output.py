"""The command's output where nobody may read it to the end."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable
from typing import Any, TextIO


class WhileRead:
    """A stream that may lose its reader (`ppl-vae train ... | head`): then it writes nowhere,
    and the work goes on.
    """

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream
        self._read = True

    def write(self, text: str) -> int:
        """Write, where somebody still reads."""
        self._while_read(lambda: self._stream.write(text))
        return len(text)

    def flush(self) -> None:
        """Flush, where somebody still reads."""
        self._while_read(self._stream.flush)

    def _while_read(self, action: Callable[[], object]) -> None:
        if not self._read:
            return
        try:
            action()
        except BrokenPipeError:
            self._read = False
            nowhere = os.open(os.devnull, os.O_WRONLY)
            with contextlib.suppress(OSError, ValueError):  # the interpreter flushes the stream at its end
                os.dup2(nowhere, self._stream.fileno())
            os.close(nowhere)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)
