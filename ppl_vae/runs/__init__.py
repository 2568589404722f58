"""Runs on disk: files that are written whole or not at all, checked, owned by one process, and loaded back."""

from ppl_vae.runs.loading import load, pair_config, pair_from_config

__all__ = ["load", "pair_config", "pair_from_config"]
