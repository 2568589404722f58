"""A pair's draws, predictions and log-weights on some data as ArviZ InferenceData."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
import xarray
from pyro.poutine.trace_struct import Trace
from torch import Tensor

from ppl_vae.core.checks import checked
from ppl_vae.core.isolation import one_thread, questioning
from ppl_vae.core.layout import particle_first
from ppl_vae.core.pair import Pair
from ppl_vae.core.particles import Particles
from ppl_vae.core.sites import Uncondition, data_frame
from ppl_vae.core.subsampling import draw_whole
from ppl_vae.evaluate.arviz_support import load_inference_data, save_inference_data, to_inference_data
from ppl_vae.evaluate.batches import to_data
from ppl_vae.evaluate.loop import check_pair_type
from ppl_vae.queries.handlers import find_plate_dim, several, with_sums

__all__ = ["inference_data", "load_inference_data", "save_inference_data"]


@one_thread
@checked()
def inference_data(pair: Pair, x: Any, num_samples: int = 100, *, seed: int | None = 0) -> Any:
    r"""Draws, predictions and log-weights of a pair on some data, as ArviZ reads them.

    Groups, with S draws in one chain and the data along the dim `datum`:

    - `posterior`: z ~ q(z | x), (chain, draw, datum, {site}_dim_0, ...) by latent site. They are draws
      from the guide: weigh them with `log_weight` for the model's own posterior.
    - `posterior_predictive`: x' ~ p(x' | z) at those draws; `log_likelihood`: log p(x | z), (chain, draw,
      datum); both by observed site.
    - `prior`, `prior_predictive`: draws from the model without data.
    - `observed_data`: (datum, {site}_dim_0, ...).
    - `sample_stats`: `log_weight` = log p(x, z) - log q(z | x), and in it `log_prior` and `log_guide`,
      (chain, draw, datum); with latents outside the `data` plate also `global_log_weight`, (chain, draw).

    All data goes through the pair at once, and the result holds S predictions for each datum: give
    some tens or hundreds of data.

    Args:
        pair: model and guide; their modules are in eval mode meanwhile.
        x: a `data.Split`, a Tensor (N, *event), a tuple of Tensors (N, ...), or what `data.as_split` takes.
        num_samples: S.
        seed: of the draws; the caller's random numbers stay as they were. None draws from those.

    Returns:
        An `arviz.InferenceData`, or an `xarray.DataTree` with ArviZ 1.x.

    Raises:
        PairError: a pair that breaks the contract.
        ValueError: data that is empty or has lengths that differ, or `num_samples` below one.

    Kumar et al., ArviZ, a Unified Library for Exploratory Analysis of Bayesian Models in Python, 2019.

    >>> from ppl_vae import guides, models, nets
    >>> pair = Pair(models.LinearGaussian(2, 5), guides.MeanField(nets.MLPEncoder((5,), 2)))
    >>> inference_data(pair, torch.randn(8, 5), num_samples=20)["posterior"]["z"].dims
    ('chain', 'draw', 'datum', 'z_dim_0')
    """
    check_pair_type(pair)
    source = to_data(x, pair)
    (batch,) = source.batches(len(source))
    with questioning(pair, seed, pair.device):
        particles = draw_whole(pair.model, pair.guide, batch, num_particles=num_samples)
        free, dim = Uncondition()(pair.model), find_plate_dim(pair, batch) if num_samples > 1 else None
        prior = several(free, batch, num_samples, dim)
        latents = with_sums(pair, particles.guide_trace, batch, num_samples, dim)
        predictive = several(free, batch, num_samples, dim, replay=latents)
    observed = [name for name in particles.log_likelihood if not _is_factor(particles.model_trace, name)]
    outside = [name for name in particles.model_trace.observation_nodes if name not in observed]
    latent = [name for name in prior.stochastic_nodes if name not in (*observed, *outside)]
    in_guide = [name for name in particles.guide_trace.stochastic_nodes if _is_kept(particles, name)]

    def drawn(trace: Trace, names: list[str]) -> xarray.Dataset:
        return _dataset({name: _draws(trace, name, num_samples) for name in names})

    observed_values = {name: _draws(particles.model_trace, name, num_samples) for name in observed}
    return to_inference_data(
        {
            "posterior": drawn(particles.guide_trace, in_guide),
            "posterior_predictive": drawn(predictive, observed),
            "log_likelihood": _dataset(
                {name: _terms(value) for name, value in particles.log_likelihood.items() if name in observed}
            ),
            "sample_stats": _dataset(_sample_stats(particles)),
            "prior": drawn(prior, [name for name in latent if name in in_guide]),
            "prior_predictive": drawn(prior, observed),
            "observed_data": _dataset(
                {name: array.isel(chain=0, draw=0, drop=True) for name, array in observed_values.items()}
            ),
        }
    )


def _is_factor(trace: Trace, name: str) -> bool:
    """Whether a site is a `pyro.factor`: a term of the density without a value."""
    return trace.nodes[name]["value"].numel() == 0


def _is_kept(particles: Particles, name: str) -> bool:
    return name in particles.log_guide or name in particles.global_log_guide


def _draws(trace: Trace, name: str, num_samples: int) -> xarray.DataArray:
    """A site's values as (chain, draw, datum, {site}_dim_0, ...), without datum for a global site."""
    site = trace.nodes[name]
    values = particle_first(site["value"], site, num_samples)
    leading = ["draw", "datum"] if data_frame(site) is not None else ["draw"]
    rest = [f"{name}_dim_{number}" for number in range(values.dim() - len(leading))]
    return _array(values, [*leading, *rest])


def _terms(values: Tensor) -> xarray.DataArray:
    """(S, N) or (S,) terms as (chain, draw, datum) or (chain, draw)."""
    return _array(values, ["draw", "datum"][: values.dim()])


def _array(values: Tensor, dims: list[str]) -> xarray.DataArray:
    array = xarray.DataArray(values.detach().cpu().numpy().copy(), dims=dims)
    return array.expand_dims("chain").assign_coords(
        {dim: range(array.sizes[dim]) for dim in dims} | {"chain": [0]}
    )


def _sample_stats(particles: Particles) -> dict[str, xarray.DataArray]:
    stats = {"log_weight": _terms(particles.log_weight)}
    for name, terms in (("log_prior", particles.log_prior), ("log_guide", particles.log_guide)):
        if terms:
            stats[name] = _terms(torch.stack(list(terms.values())).sum(0))
    if particles.global_log_weight is not None:
        stats["global_log_weight"] = _terms(particles.global_log_weight)
    return stats


def _dataset(arrays: Mapping[str, xarray.DataArray]) -> xarray.Dataset:
    return xarray.Dataset(arrays, attrs={"inference_library": "ppl_vae"})
