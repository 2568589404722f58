"""Guides: Pyro programs q(z | x), one family of approximate posteriors a file."""

if not __name__.startswith("ppl_vae."):
    raise ImportError("import this folder as ppl_vae.guides: 'import guides' would load a second copy")

from ppl_vae.guides.full_rank import FullRank
from ppl_vae.guides.mean_field import MeanField

__all__ = ["FullRank", "MeanField"]
