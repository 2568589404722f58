"""ppl_vae: a laboratory for amortized variational inference on Pyro."""

from ppl_vae.interrupts import quietly

with quietly():  # the imports take seconds, in which somebody may press Ctrl-C
    from ppl_vae.compare import compare
    from ppl_vae.fit import Run, TrainingError, fit
    from ppl_vae.inference_data import inference_data
    from ppl_vae.pair import Pair
    from ppl_vae.particles import Particles
    from ppl_vae.queries import decode, encode, interpolate, reconstruct, sample, traverse
    from ppl_vae.run_folder import RunError
    from ppl_vae.runs import load
    from ppl_vae.sites import PairError
    from ppl_vae.svi import SVI

__all__ = [
    "SVI",
    "Pair",
    "PairError",
    "Particles",
    "Run",
    "RunError",
    "TrainingError",
    "compare",
    "decode",
    "encode",
    "fit",
    "inference_data",
    "interpolate",
    "load",
    "reconstruct",
    "sample",
    "traverse",
]
