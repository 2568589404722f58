"""Why a step cannot be captured, and at which site or line that shows."""

from __future__ import annotations

import traceback
from pathlib import Path
from typing import Any

import torch
from pyro.poutine.messenger import Messenger

# frames of these say how a statement was run, not which one it was
_MACHINERY = tuple(str(Path(torch.__file__).parent / part) for part in ("_", "fx", "utils", "func", "nn"))
_MACHINERY += (str(Path(__file__).parent),)


class CaptureError(RuntimeError):
    """A gradient step that cannot be captured; the message names the site or the line and the reason."""


class SiteWatch(Messenger):
    """Knows the sample site that is being drawn, so that a failure within it can be named."""

    def __init__(self) -> None:
        super().__init__()
        self.site: str | None = None

    def _pyro_sample(self, msg: Any) -> None:
        self.site = f"{msg['name']!r} ({type(_innermost(msg['fn'])).__name__})"

    def _pyro_post_sample(self, msg: Any) -> None:
        self.site = None


def explain(error: Exception, watch: SiteWatch) -> CaptureError:
    """A CaptureError that names the site or the line where tracing failed, and the reason."""
    if isinstance(error, CaptureError):
        return CaptureError(str(error))
    while isinstance(error, IndexError) and isinstance(
        error.__context__, RuntimeError | torch.fx.proxy.TraceError
    ):
        error = error.__context__  # torch 2.8 stumbles over an error without arguments
    frames = traceback.extract_tb(error.__traceback__)
    own = [frame for frame in frames if not frame.filename.startswith(_MACHINERY)]
    frame = (own or frames)[-1]
    line = f"{Path(frame.filename).name}:{frame.lineno}, `{frame.line}`"
    where = f"site {watch.site}, drawn at {line}" if watch.site else line
    return CaptureError(f"{where}: {_reason(error)}")


def _reason(error: Exception) -> str:
    kind, text = type(error).__name__, str(error)
    if kind.startswith(("DataDependent", "GuardOnDataDependent")) or "SymInt" in text:
        return "the program looks at the values of a tensor, and a captured step knows its shape alone"
    if kind.startswith("DynamicOutputShape"):
        return "the shape of a result depends on the values of a tensor"
    if "ProvenanceTensor" in text:
        return "TraceGraph_ELBO follows discrete draws by a kind of tensor that cannot be traced"
    if "convert all Tensors to FakeTensors" in text:
        return (
            "a tensor that is no parameter, buffer or attribute of the pair or the estimator takes part; make "
            "it one, so that a captured step sees it change"
        )
    return f"{kind}: {text.strip().splitlines()[0] if text.strip() else 'no message'}"


def _innermost(fn: Any) -> Any:
    while hasattr(fn, "base_dist"):
        fn = fn.base_dist
    return fn
