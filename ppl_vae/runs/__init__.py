"""Runs on disk: files that are written whole or not at all, checked, owned by one process,
and loaded back.
"""

from ppl_vae.runs.atomic import atomic_write
from ppl_vae.runs.folder import CHECKPOINT, CONFIG, METRICS, WEIGHTS, RunFolder
from ppl_vae.runs.loading import load, pair_config, pair_from_config
from ppl_vae.runs.run_error import RunError, WriteError
from ppl_vae.runs.schemas import load_alphabet, load_schema

__all__ = [
    "CHECKPOINT",
    "CONFIG",
    "METRICS",
    "WEIGHTS",
    "RunError",
    "RunFolder",
    "WriteError",
    "atomic_write",
    "load",
    "load_alphabet",
    "load_schema",
    "pair_config",
    "pair_from_config",
]
