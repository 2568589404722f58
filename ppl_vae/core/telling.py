"""Warnings at the line of the user's own program that asked, whatever stands between it and the reason."""

from __future__ import annotations

import sys
import warnings
from pathlib import Path

import pyro
import torch

_PACKAGE = Path(__file__).parents[1]
_BETWEEN = tuple(map(str, (_PACKAGE, *(Path(str(each.__file__)).parent for each in (pyro, torch)))))


def tell(message: str, category: type[Warning] = UserWarning) -> None:
    """Warn at the innermost line that is neither of this package nor of torch or Pyro."""
    frame, level = sys._getframe(1), 2
    while frame.f_back is not None and frame.f_code.co_filename.startswith(_BETWEEN):
        frame, level = frame.f_back, level + 1
    warnings.warn(message, category, stacklevel=level)
