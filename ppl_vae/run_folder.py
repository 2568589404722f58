"""A run's folder under its short name; the code is in `ppl_vae.runs`."""

from ppl_vae.runs.atomic import atomic_write
from ppl_vae.runs.errors import RunError, WriteError
from ppl_vae.runs.folder import CHECKPOINT, CONFIG, METRICS, WEIGHTS, RunFolder

__all__ = [
    "CHECKPOINT",
    "CONFIG",
    "METRICS",
    "WEIGHTS",
    "RunError",
    "RunFolder",
    "WriteError",
    "atomic_write",
]
