"""What goes wrong with compressed files."""

from __future__ import annotations


class CompressionError(ValueError):
    """A file that cannot be decoded here, or data that cannot be coded; says why and what to do."""
