"""Generative models: Pyro programs p(x, z), one family a file."""

if not __name__.startswith("ppl_vae."):
    raise ImportError("import this folder as ppl_vae.models: 'import models' would load a second copy")

from ppl_vae.models.linear_gaussian import LinearGaussian
from ppl_vae.models.vae import VAE

__all__ = ["VAE", "LinearGaussian"]
