"""The errors of `ppl_vae.data`: one clear sentence, with the fix."""

from __future__ import annotations


class DataError(ValueError):
    """Data that cannot be used as it is: the message names the place, the value and the fix."""


class MissingDataError(DataError, FileNotFoundError):
    """Data that is not there: the message says where it is looked for."""
