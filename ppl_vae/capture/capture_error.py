"""Why a step cannot be captured, and at which site or line that shows."""

from __future__ import annotations

import linecache
import re
import sysconfig
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from types import CodeType, FrameType
from typing import Any

import pyro
import torch
from pyro.poutine.messenger import Messenger

from ppl_vae.compiler import CompileError

Line = tuple[str, int] | None
"""A file and the number of a line in it."""

# frames of these say how a statement was run, not which one it was
_MACHINERY = tuple(
    str(Path(torch.__file__).parent / part)
    for part in ("_", "autograd", "fx", "utils", "func", "nn", "overrides")
)
_OURS = Path(__file__).parents[1]
_MACHINERY += tuple(str(_OURS / part) for part in ("capture", "compiler", "svi", "train/captured_step.py"))
_LIBRARIES = (
    str(Path(torch.__file__).parent),
    str(Path(pyro.__file__).parent),
    str(_OURS),
    sysconfig.get_path("stdlib"),
    "<",
)


class CaptureError(RuntimeError):
    """A gradient step that cannot be captured; the message names the site or the line and the reason."""


class NotWorth(Exception):
    """A step that could be captured and would not repay its compilation."""


class SiteWatch(Messenger):
    """Knows the sample site that is being drawn, so that a failure within it can be named."""

    def __init__(self) -> None:
        super().__init__()
        self.site: str | None = None

    def _pyro_sample(self, msg: Any) -> None:
        self.site = f"{msg['name']!r} ({type(_innermost(msg['fn'])).__name__})"

    def _pyro_post_sample(self, msg: Any) -> None:
        self.site = None


@cache
def is_machinery(filename: str) -> bool:
    """Whether a file's frames only say how a statement was run."""
    return filename.startswith(_MACHINERY)


@cache
def is_library(filename: str) -> bool:
    """Whether a file is torch's, Pyro's, Python's or ours."""
    return filename.startswith(_LIBRARIES)


def line_of(frame: FrameType | None, until: CodeType | None = None) -> Line:
    """The innermost line that is the user's; else the innermost one outside of what runs the programs.

    Args:
        frame: to look from outwards.
        until: what runs the programs; lines outside of it are none of theirs.
    """
    ours: Line = None
    while frame is not None and frame.f_code is not until:
        name = frame.f_code.co_filename
        if not is_library(name):
            return name, frame.f_lineno
        if ours is None and not is_machinery(name):
            ours = name, frame.f_lineno
        frame = frame.f_back
    return ours


def named(line: Line) -> str:
    """A line as the beginning of a message; nothing where it is not known."""
    if line is None:
        return ""
    return f"{Path(line[0]).name}:{line[1]}, `{linecache.getline(*line).strip()}`: "


def explain(error: Exception, watch: SiteWatch | None = None) -> CaptureError:
    """A CaptureError that names the site or the line where capturing failed, and the reason."""
    site = f"site {watch.site}, drawn at " if watch is not None and watch.site else ""
    if isinstance(error, CaptureError | CompileError):
        return CaptureError(f"{site}{_without_shapes(error)}")
    frames = traceback.extract_tb(error.__traceback__)
    users = [frame for frame in frames if not is_library(frame.filename)]
    own = [frame for frame in frames if not is_machinery(frame.filename)]
    frame = (users or own or frames)[-1]
    return CaptureError(f"{site}{named((frame.filename, frame.lineno or 0))}{_reason(error)}")


@contextmanager
def as_refusals() -> Iterator[None]:
    """An error in here, where the program has run before as it is written, is a reason not to capture it."""
    try:
        yield
    except CaptureError:
        raise
    except Exception as error:
        raise explain(error) from error


def _reason(error: Exception) -> str:
    kind, text = type(error).__name__, _without_shapes(error)
    return f"{kind}: {text.strip().splitlines()[0] if text.strip() else 'no message'}"


def _without_shapes(error: Exception) -> str:
    """A message without the table that Pyro's trace appends."""
    return re.split(r"\n *Trace Shapes:", str(error))[0].rstrip()


def _innermost(fn: Any) -> Any:
    while hasattr(fn, "base_dist"):
        fn = fn.base_dist
    return fn
