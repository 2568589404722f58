"""The posterior of each datum's latents: draws of p(z | what is observed), with what judges them."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import torch
import xarray
from torch import Tensor

from ppl_vae.capture.function import Capture, check_capture
from ppl_vae.core.checks import checked
from ppl_vae.core.isolation import one_thread, questioning
from ppl_vae.core.pair import Pair, require_pair
from ppl_vae.core.telling import tell
from ppl_vae.evaluate import arviz_support
from ppl_vae.evaluate.k_hat import k_hat_limit
from ppl_vae.evaluate.loop import progress_bar
from ppl_vae.sampling.bases import Start
from ppl_vae.sampling.draws import posterior_draws
from ppl_vae.sampling.hidden import Observed, hide
from ppl_vae.sampling.question import PosteriorDraws, Question
from ppl_vae.sampling.settings import METHODS, Method, Settings

R_HAT_LIMIT = 1.05
"""Vehtari et al. ask for 1.01 of a published number; from here on the chains disagree visibly."""
LEAST_MOVES = 3
"""Latents that a chain of Metropolis within Gibbs has to take, before it is anywhere but where it began."""


@one_thread
@checked()
def posterior(
    pair: Pair,
    *batch: Any,
    method: Method = "hmc",
    num_samples: int = 500,
    observed: Observed = None,
    num_chains: int = 4,
    warmup: int = 200,
    num_leapfrogs: int = 10,
    target_acceptance: float = 0.8,
    num_temperatures: int = 100,
    num_proposals: int | None = None,
    start: Start = "guide",
    seed: int | None = 0,
    progress: bool = True,
    capture: Capture = "auto",
) -> Any:
    r"""Draws of each datum's latents from p(z | what is observed), as ArviZ reads them, and how far to trust
    them.

    =============  ====================================================================================
    method         draws
    =============  ====================================================================================
    `guide`        of q(z | x) itself, with the log-weights log p(x, z) - log q(z | x)
    `importance`   of q, with Pareto-smoothed weights that sum to one for each datum
    `resample`     of q, drawn again `num_samples` times with these weights (with replacement)
    `hmc`          of Hamiltonian Monte Carlo, begun at q's draws, in the scale of q's covariance
    `anneal`       of chains annealed from q, or the prior, to the posterior, drawn again by their weights
    =============  ====================================================================================

    The last two move all chains of all data at once, on the whole real line behind each site's support, and
    accept for each datum and chain by itself. Step sizes are found for each datum in a pilot run (`warmup`,
    or a first annealing) and frozen then; a guide that is many times too wide or too narrow costs warmup and
    nothing else. No diagnostic sees a mode that none of the guide's draws begins near. Finite latents are
    summed over while the others move, and drawn from p(k | x, z) at the end.

    Args:
        pair: model and guide; their modules are in eval mode meanwhile.
        batch: the tensors of a batch, or what holds them by name, as `pv.encode` takes them. All its data
            go through the pair at once: some hundreds at a time.
        method: see above.
        num_samples: draws of each datum, of each chain for "hmc".
        observed: True where an entry of the batch is to be seen, of the shape of its only tensor or by
            arguments, `observed={"x": mask}`; NaN in the data is hidden too. Needs likelihoods that
            factorise over what is masked. The guide sees NaN there if it takes missing values (such as
            `nets.ColumnEncoder`), else 0.
        num_chains: of "hmc".
        warmup: its trajectories before the first draw.
        num_leapfrogs: the most gradients of a trajectory, whose number is drawn each time.
        target_acceptance: what "hmc" tunes its steps for.
        num_temperatures: of "anneal".
        num_proposals: of "resample", ten for each draw and 1,000 at least by default.
        start: where "anneal" begins: "guide"; "moments", the normal density of the guide's mean and
            covariance, also for a guide whose density is only known at its own draws; or "prior".
        seed: of the draws; the caller's random numbers stay as they were. None draws from those.
        progress: show a progress bar.
        capture: compute the log-density and its gradient, for "hmc" and "anneal", with a compiled graph
            (`ppl_vae.capture`). "auto" does so where there are enough of them to repay the compilation;
            True always. Captured or not, they are the same to rounding, which long chains make visible:
            other draws of the same posterior.

    Returns:
        An `arviz.InferenceData`, or an `xarray.DataTree` with ArviZ 1.x. `posterior`: (chain, draw, datum,
        {site}_dim_0, ...) by site. `sample_stats`: by draw `lp` (log-joint density on the real line, nats),
        `acceptance_rate` and `diverging`, or `log_weight`; by datum `r_hat` (the largest of its latents'),
        `ess` (the smallest effective sample size), `step_size`, or `k_hat` and `ess` of the weights.

    Raises:
        CaptureError: with `capture=True`, for a pair that cannot be captured.
        PairError: a pair that the method cannot take, or an entry that cannot be hidden: the site, and what
            can be asked for instead.
        ValueError: for a batch, a mask or a number that is none.

    Warns:
        UserWarning: where R-hat, divergent trajectories or k-hat say that some data's draws are not to be
            trusted; how many.

    Neal, MCMC using Hamiltonian dynamics, arXiv:1206.1901; Vehtari et al., Pareto Smoothed Importance
    Sampling, arXiv:1507.02646.

    >>> from ppl_vae import Pair, guides, models, nets
    >>> pair = Pair(models.LinearGaussian(2, 5), guides.MeanField(nets.MLPEncoder((5,), 2)))
    >>> draws = posterior(pair, torch.randn(8, 5), method="resample", num_samples=50, progress=False)
    >>> draws["posterior"]["z"].shape
    (1, 50, 8, 2)
    """
    require_pair(pair)
    check_capture(capture)
    settings = _settings(
        method, num_samples, num_chains, warmup, num_leapfrogs, target_acceptance, num_temperatures,
        num_proposals, start, capture,
    )  # fmt: skip
    with questioning(pair, seed, pair.device):
        hidden = hide(pair, batch, observed, "posterior")
        with progress_bar(settings.total, f"posterior, {method}", "steps", progress) as bar:
            question = Question(hidden, "posterior", arviz_support.smoothed, bar.update)
            drawn = posterior_draws(question, settings)
    drawn = judged(drawn, method)
    num_weights = num_samples if method != "resample" else settings.num_proposals
    tell_doubts(drawn.per_datum, drawn.per_draw.get("diverging"), num_weights, "posterior")
    return as_inference_data(drawn, method)


def _settings(
    method: str,
    num_samples: int,
    num_chains: int,
    warmup: int,
    num_leapfrogs: int,
    target_acceptance: float,
    num_temperatures: int,
    num_proposals: int | None,
    start: Start,
    capture: Capture,
) -> Settings:
    if method not in METHODS:
        raise ValueError(f"method must be one of {list(METHODS)}, got {method!r}")
    if start not in ("guide", "moments", "prior"):
        raise ValueError(f"start must be 'guide', 'moments' or 'prior', got {start!r}")
    if not 0 < target_acceptance < 1:
        raise ValueError(f"target_acceptance must lie between 0 and 1, got {target_acceptance!r}")
    proposals = max(1000, 10 * num_samples) if num_proposals is None else num_proposals
    settings = Settings(
        method, num_samples, num_chains, warmup, num_leapfrogs, target_acceptance, num_temperatures,
        proposals, start, capture,
    )  # fmt: skip
    return settings


def judged(drawn: PosteriorDraws, method: str) -> PosteriorDraws:
    """The draws with R-hat and the effective sample size of each datum, where they are of chains."""
    if method != "hmc":
        return drawn
    worst = {"r_hat": torch.full((), -math.inf), "ess": torch.full((), math.inf)}
    for value in drawn.values.values():
        if not value.is_floating_point():
            continue
        r_hat, ess = arviz_support.chain_diagnostics(value.reshape(*value.shape[:3], -1))
        worst = {
            "r_hat": torch.maximum(worst["r_hat"], r_hat.amax(-1)),
            "ess": torch.minimum(worst["ess"], ess.amin(-1)),
        }
    return replace(drawn, per_datum={**drawn.per_datum, **worst})


def tell_doubts(
    per_datum: Mapping[str, Tensor], divergent: Tensor | None, num_weights: int, what: str
) -> None:
    """Warn, in a line each, of what says that some of the draws are not to be trusted."""
    lines = []
    r_hat = per_datum.get("r_hat")
    if r_hat is not None and (share := float((~(r_hat < R_HAT_LIMIT)).double().mean())):
        lines.append(
            f"R-hat is above {R_HAT_LIMIT} for {share:.1%} of the data, whose chains have not met: "
            f"more warmup, "
            "or more leapfrogs"
        )
    if divergent is not None and (count := int(divergent.sum())):
        lines.append(
            f"{count:,} of {divergent.numel():,} trajectories diverged: target_acceptance=0.95 "
            f"takes smaller steps"
        )
    k_hat = per_datum.get("k_hat")
    if k_hat is not None and (share := float((k_hat > k_hat_limit(num_weights)).double().mean())) > 0.1:
        lines.append(
            f"k-hat is above {k_hat_limit(num_weights):.2g} for {share:.1%} of the data: few of "
            f"their draws carry "
            "the weight. Ask for more, or for method='hmc'"
        )
    moves = per_datum.get("moves")
    if moves is not None and (share := float((moves < LEAST_MOVES).double().mean())) > 0.1:
        lines.append(
            f"chains of {share:.1%} of the data took fewer than {LEAST_MOVES} of the latents that the guide "
            "proposed, so that their draws are still next to pseudo-Gibbs's: more warmup, or method='hmc'"
        )
    for line in lines:
        tell(f"{what}: {line}")


def as_inference_data(drawn: PosteriorDraws, method: str) -> Any:
    """The draws in groups `posterior` and `sample_stats`."""
    sites = {name: _array(name, value, name in drawn.shared) for name, value in drawn.values.items()}
    stats = {name: _stat(value, ("chain", "draw", "datum")) for name, value in drawn.per_draw.items()}
    stats |= {name: _stat(value, ("datum",)) for name, value in drawn.per_datum.items()}
    attrs = {"inference_library": "ppl_vae", "method": method}
    groups = {"posterior": xarray.Dataset(sites, attrs=attrs)}
    if stats:
        groups["sample_stats"] = xarray.Dataset(stats, attrs=attrs)
    return arviz_support.to_inference_data(groups)


def _array(name: str, value: Tensor, shared: bool) -> xarray.DataArray:
    leading = ("chain", "draw") if shared else ("chain", "draw", "datum")
    return _stat(value, (*leading, *(f"{name}_dim_{n}" for n in range(value.dim() - len(leading)))))


def _stat(value: Tensor, dims: tuple[str, ...]) -> xarray.DataArray:
    array = xarray.DataArray(value.detach().cpu().numpy().copy(), dims=dims)
    return array.assign_coords({dim: range(array.sizes[dim]) for dim in dims})
