"""Imputation: what is missing of a batch, drawn from the model given the rest."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import Any, Literal, get_args

import torch
from torch import Tensor

from ppl_vae.core.checks import checked
from ppl_vae.core.isolation import one_thread, questioning
from ppl_vae.core.pair import Pair, require_pair
from ppl_vae.data import Schema
from ppl_vae.evaluate import arviz_support
from ppl_vae.evaluate.imputations import Imputations, joined
from ppl_vae.evaluate.latent_posterior import judged, tell_doubts
from ppl_vae.evaluate.loop import progress_bar
from ppl_vae.queries.inputs import names_of
from ppl_vae.sampling.completing import Completion
from ppl_vae.sampling.draws import posterior_draws
from ppl_vae.sampling.gibbs import gibbs
from ppl_vae.sampling.hidden import Hidden, Observed, hide, with_gaps
from ppl_vae.sampling.question import Kept, Question
from ppl_vae.sampling.settings import Settings
from ppl_vae.sampling.weighted import resampled, take

ImputeMethod = Literal["importance", "guide", "hmc", "anneal", "pseudo-gibbs", "metropolis-within-gibbs"]
METHODS: tuple[str, ...] = get_args(ImputeMethod)
_NUMBERS = 2**26  # in the draws of a part of the data


@one_thread
@checked()
def impute(
    pair: Pair,
    *batch: Any,
    observed: Observed = None,
    method: ImputeMethod = "importance",
    num_samples: int = 10,
    num_proposals: int = 1000,
    num_chains: int | None = None,
    warmup: int = 100,
    num_leapfrogs: int = 10,
    num_temperatures: int = 100,
    seed: int | None = 0,
    progress: bool = True,
) -> Imputations:
    r"""Draw what is missing of a batch from p(x_missing | x_observed), and its mean.

    ===========================  ===================================================================
    method                       latents
    ===========================  ===================================================================
    `importance`                 the guide's draws by their weights: the mean is self-normalised over
                                 all proposals, the draws are drawn again by the weights (MIWAE)
    `guide`                      the guide's draws as they are
    `hmc`, `anneal`              as `posterior` draws them
    `pseudo-gibbs`               the guide's given a completed batch, and so on in turns
    `metropolis-within-gibbs`    the same with an accept step for each datum: exact for any guide
    ===========================  ===================================================================

    Then x is drawn from the likelihood. What is observed is conditioned on exactly: the elements of a
    likelihood that factorises are left out one by one. The guide sees NaN in the gaps if it takes missing
    values (such as `nets.ColumnEncoder`), else 0, which is what the amortised answer is off by; an argument
    of the programs may tell it the mask.

    Args:
        pair: model and guide; their modules are in eval mode meanwhile.
        batch: the tensors of a batch, or what holds them by name, a frame or a `data.Split` too.
        observed: True where an entry is observed, of the shape of the only tensor, or by argument; NaN in
            the data is missing too.
        method: see above.
        num_samples: S, completions of the batch.
        num_proposals: draws of the guide for each datum, for "importance".
        num_chains: of the methods that have chains: 4 of "hmc", else as many as draws, 10 at most.
        warmup: trajectories or rounds before the first draw.
        num_leapfrogs, num_temperatures: of "hmc" and "anneal", as `posterior`.
        seed: of the draws; the caller's random numbers stay as they were. None draws from those.
        progress: show a progress bar.

    Raises:
        PairError: an entry that cannot be hidden, a pair that the method cannot take; naming the site.
        ValueError: where nothing is missing, and for a wrong argument.

    Mattei and Frellsen, MIWAE, arXiv:1812.02633; Leveraging the Exact Likelihood of Deep Latent Variable
    Models, arXiv:1802.04826.

    >>> from ppl_vae import Pair, guides, models, nets
    >>> pair = Pair(models.LinearGaussian(2, 5), guides.MeanField(nets.MLPEncoder((5,), 2)))
    >>> x = torch.randn(8, 5)
    >>> x[0, 1] = torch.nan
    >>> impute(pair, x, num_samples=3, progress=False).frame().columns.tolist()
    ['imputation', 'datum', 'entry', 'value']
    """
    require_pair(pair)
    if method not in METHODS:
        raise ValueError(f"method must be one of {list(METHODS)}, got {method!r}")
    chains = num_chains if num_chains is not None else (4 if method == "hmc" else min(10, num_samples))
    with questioning(pair, seed, pair.device):
        hidden = hide(pair, batch, observed, "impute")
        if not hidden.any:
            raise ValueError(
                "nothing is missing: the data have no NaN, and observed= hides nothing. Give observed=mask, "
                "True where an entry is to be seen"
            )
        if method in ("pseudo-gibbs", "metropolis-within-gibbs"):
            parts = (
                _by_gibbs(part, method, num_samples, chains, warmup, progress)
                for part in _parts(hidden, num_samples, chains)
            )
            return joined(list(parts))
        per_chain = -(-num_samples // chains) if method == "hmc" else num_samples
        settings = Settings(
            method, num_proposals if method == "importance" else per_chain, chains, warmup, num_leapfrogs,
            0.8, num_temperatures, num_proposals, "guide",
        )  # fmt: skip
        result = joined(
            [
                _by_posterior(part, settings, num_samples, progress)
                for part in _parts(hidden, max(settings.num_samples, num_samples), chains)
            ]
        )
        judged_by = {"r_hat": result.r_hat, "k_hat": result.k_hat}
        tell_doubts(
            {n: v for n, v in judged_by.items() if v is not None}, None, settings.num_samples, "impute"
        )
        return result


def _parts(hidden: Hidden, draws: int, chains: int) -> Iterator[Hidden]:
    """The batch in parts whose draws fit the memory; whole where the programs go with its rows alone."""
    rows, widest = len(hidden.batch[0]), max(tensor[0].numel() for tensor in hidden.batch)
    size = max(1, _NUMBERS // (widest * max(draws, chains)))
    if size >= rows or hidden.pair.fixed_rows is not None:
        yield hidden
        return
    for first in range(0, rows, size):
        part = slice(first, first + size)
        tensors = tuple(tensor[part] for tensor in hidden.batch)
        masks = tuple(mask[part] for mask in hidden.hidden)
        yield with_gaps(hidden.pair, tensors, masks, "impute", hidden.completed)


def _by_posterior(hidden: Hidden, settings: Settings, num_samples: int, progress: bool) -> Imputations:
    completion = Completion(hidden)
    with progress_bar(settings.total, f"impute, {settings.method}", "steps", progress) as bar:
        question = Question(hidden, "impute", arviz_support.smoothed, bar.update, completion)
        drawn = judged(posterior_draws(question, settings), settings.method)
    values = {name: value.flatten(0, 1) for name, value in drawn.also.items()}
    weights = None
    if settings.method == "importance":
        weights = drawn.per_draw["log_weight"][0].exp()
        chosen = resampled(drawn.per_draw["log_weight"][0], num_samples)
    else:
        # the draws of chains, spread over the whole run
        count = len(next(iter(values.values())))
        chosen = torch.linspace(0, count - 1, num_samples).round().long().unsqueeze(-1)
        chosen = chosen.expand(-1, next(iter(values.values())).shape[1])
    result = _result(hidden, completion, values, weights, chosen, settings.method)
    k_hat = drawn.per_datum.get("k_hat")
    acceptance = drawn.per_draw.get("acceptance_rate")
    mean = None if acceptance is None else acceptance.double().mean((0, 1))
    r_hat = drawn.per_datum.get("r_hat")
    return replace(result, k_hat=k_hat, acceptance=mean, r_hat=r_hat)


def _by_gibbs(
    hidden: Hidden, method: str, num_samples: int, num_chains: int, warmup: int, progress: bool
) -> Imputations:
    rounds = -(-num_samples // num_chains)
    exact = method == "metropolis-within-gibbs"
    with progress_bar(warmup + rounds, f"impute, {method}", "rounds", progress) as bar:
        drawn, completion = gibbs(
            hidden, Completion, num_samples, num_chains, warmup, exact, bar.update, "impute"
        )
    count = len(next(iter(drawn.values.values())))
    chosen = torch.arange(count)[-num_samples:].unsqueeze(-1).expand(-1, len(hidden.batch[0]))
    result = _result(hidden, completion, dict(drawn.values), None, chosen, method)
    if not exact:
        return result
    tell_doubts({"moves": drawn.moves}, None, num_samples, "impute")
    return replace(result, acceptance=drawn.acceptance)


def _result(
    hidden: Hidden,
    completion: Completion,
    values: dict[Kept, Tensor],
    weights: Tensor | None,
    chosen: Tensor,
    method: str,
) -> Imputations:
    names = names_of(hidden.pair, len(hidden.batch)) or tuple(map(str, range(len(hidden.batch))))
    draws, means, masks = {}, {}, {}
    for number, name in enumerate(names):
        if ("draw", number) not in values:
            continue
        every, centre = values["draw", number], values["mean", number]
        draws[name] = take(every, chosen.to(every.device))
        mean = _average(centre, weights)
        flags = completion.unordered[number][: len(mean)].to(mean.device)  # chains lie one below the other
        if bool(flags.any()):
            mean[flags] = _most_frequent(every, weights, flags).to(mean)
        # as given, and not as the mean of many times the same
        given = every[0].to(mean)
        means[name], masks[name] = torch.where(hidden.hidden[number], mean, given), hidden.hidden[number]
    schema = hidden.pair.schema if isinstance(hidden.pair.schema, Schema) else None
    return Imputations(draws, means, masks, method, schema=schema)


def _average(values: Tensor, weights: Tensor | None) -> Tensor:
    """(B, ...) of (S, B, ...), with (S, B) weights that sum to one."""
    if weights is None:
        return values.double().mean(0).to(values)
    wide = weights.reshape(*weights.shape, *[1] * (values.dim() - 2))
    return (wide * values.double()).sum(0).to(values)


def _most_frequent(values: Tensor, weights: Tensor | None, flags: Tensor) -> Tensor:
    """(M,): of the M flagged entries, (B, ...), the value with the most weight among those (S, B, ...)."""
    values = values[:, flags]
    if weights is not None:
        weights = weights[:, flags.nonzero()[:, 0]]
    best, most = values[0], torch.full(values.shape[1:], -1.0, dtype=torch.float64, device=values.device)
    for level in values.unique():
        weight = _average((values == level).double(), weights)
        best, most = torch.where(weight > most, level, best), torch.maximum(weight, most)
    return best
