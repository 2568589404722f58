"""ppl_vae: a laboratory for amortized variational inference on Pyro.

With `import ppl_vae as pv`:

- `pv.Pair` is a generative model and a guide;
- `pv.fit`, `pv.refit_prior`, `pv.compare`, `pv.load`, `pv.SVI` train it, compare estimators, load it;
- `pv.sample`, `pv.encode`, `pv.reconstruct`, ... ask it; `pv.compress` makes a file of data with it;
- `pv.models`, `pv.guides`, `pv.estimators`, ... are the packages, imported when they are first used.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from ppl_vae.terminal.interrupts import quietly

with quietly():  # the imports take seconds, in which somebody may press Ctrl-C
    from ppl_vae.core.isolation import ONE_THREAD
    from ppl_vae.core.pair import Pair
    from ppl_vae.core.particles import Particles
    from ppl_vae.core.sites import PairError
    from ppl_vae.queries import (
        attribute,
        decode,
        encode,
        interpolate,
        optimise,
        reconstruct,
        sample,
        traverse,
    )
    from ppl_vae.runs import RunError, load, load_schema
    from ppl_vae.svi import SVI
    from ppl_vae.train import Run, TrainingError, fit, refit_prior

if TYPE_CHECKING:
    from ppl_vae import (
        comparison,
        compression,
        data,
        estimators,
        evaluate,
        guides,
        kl,
        likelihoods,
        models,
        nets,
        penalties,
        plots,
        priors,
        queries,
        testing,
        transforms,
    )
    from ppl_vae.comparison import compare
    from ppl_vae.compression import compress, decompress
    from ppl_vae.evaluate import impute, posterior
    from ppl_vae.evaluate.arviz_data import inference_data

    __version__: str

_PACKAGES = (
    "comparison",
    "compression",
    "data",
    "estimators",
    "evaluate",
    "guides",
    "kl",
    "likelihoods",
    "models",
    "nets",
    "penalties",
    "plots",
    "priors",
    "queries",
    "testing",
    "transforms",
)

_LATER = {  # functions of rooms that take a second to import
    "compare": "comparison",
    "compress": "compression",
    "decompress": "compression",
    "impute": "evaluate",
    "inference_data": "evaluate.arviz_data",
    "posterior": "evaluate",
}

__all__ = [
    "ONE_THREAD",
    "SVI",
    "Pair",
    "PairError",
    "Particles",
    "Run",
    "RunError",
    "TrainingError",
    "attribute",
    "compare",
    "comparison",
    "compress",
    "compression",
    "data",
    "decode",
    "decompress",
    "encode",
    "estimators",
    "evaluate",
    "fit",
    "guides",
    "impute",
    "inference_data",
    "interpolate",
    "kl",
    "likelihoods",
    "load",
    "load_schema",
    "models",
    "nets",
    "optimise",
    "penalties",
    "plots",
    "posterior",
    "priors",
    "queries",
    "reconstruct",
    "refit_prior",
    "sample",
    "testing",
    "transforms",
    "traverse",
]


def __getattr__(name: str) -> Any:
    """A package of ours, or a function of one, imported at its first use, or the version."""
    if name in _PACKAGES:
        return importlib.import_module(f"ppl_vae.{name}")
    if name in _LATER:
        found = globals()[name] = getattr(importlib.import_module(f"ppl_vae.{_LATER[name]}"), name)
        return found
    if name == "__version__":
        from importlib.metadata import version

        return version("ppl_vae")
    if name == "isolation":  # where ONE_THREAD was before it had a name here
        return importlib.import_module("ppl_vae.core.isolation")
    raise AttributeError(f"module 'ppl_vae' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__, "__version__"})
