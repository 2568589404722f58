"""ppl_vae: a laboratory for amortized variational inference on Pyro."""

from ppl_vae.pair import Pair
from ppl_vae.particles import Particles

__all__ = ["Pair", "Particles"]
