"""The log-likelihood of data by importance sampling, with its errors and diagnostics."""

from __future__ import annotations

import math
import time
from dataclasses import dataclass, field
from typing import Any, Literal

import torch
from torch import Tensor

from ppl_vae.capture.function import Capture
from ppl_vae.core.checks import checked
from ppl_vae.core.isolation import one_thread, questioning, random_numbers
from ppl_vae.core.pair import Pair
from ppl_vae.evaluate import arviz_support
from ppl_vae.evaluate.annealed import annealed
from ppl_vae.evaluate.batches import to_data
from ppl_vae.evaluate.k_hat import k_hat_limit, share_above, why_lower_bound
from ppl_vae.evaluate.lines import plus_minus, rows
from ppl_vae.evaluate.log_weights import LogWeights
from ppl_vae.evaluate.loop import Batch, batches, check_pair_type, refuse_nan
from ppl_vae.evaluate.statistics import standard_error
from ppl_vae.sampling.bases import Start


@dataclass(frozen=True, eq=False)
class LogLikelihood:
    """An estimate of log p(x) over a data set, by importance sampling or annealing, in nats per datum.

    Attributes:
        value: the mean over the data of log p(x_i), or of a lower bound on it: see `is_lower_bound`.
        standard_error: of `value`, from the spread over the data: how far another test set of this
            size may differ. It contains the Monte Carlo error.
        monte_carlo_standard_error: of `value`, from the particles alone: how far another seed may
            differ. By the delta method; nan for K = 1, and where `is_lower_bound`.
        num_particles: K; of annealing, the chains.
        decoder_passes_per_second: N K over the seconds that the whole evaluation took.
        per_datum: (N,) log p(x_i), float64.
        per_datum_monte_carlo_standard_error: (N,) of `per_datum`, by the delta method: too small where
            that datum's k-hat is above `k_hat_limit`.
        ess: (N,) effective sample size, (sum w)^2 / sum w^2, from 1 to K.
        k_hat: (N,) Pareto shape of the weights' tail, see `arviz_support.k_hat`.
        num_temperatures: T of annealing; 0 for importance sampling.
    """

    value: float
    standard_error: float
    monte_carlo_standard_error: float
    num_particles: int
    decoder_passes_per_second: float
    per_datum: Tensor = field(repr=False)
    per_datum_monte_carlo_standard_error: Tensor = field(repr=False)
    ess: Tensor = field(repr=False)
    k_hat: Tensor = field(repr=False)
    num_temperatures: int = 0

    @property
    def k_hat_limit(self) -> float:
        """The largest k-hat that K particles allow, min(1 - 1 / log10 K, 0.7)."""
        return k_hat_limit(self.num_particles)

    @property
    def share_unreliable(self) -> float:
        """The share of the data with k-hat above `k_hat_limit`; nan for fewer particles than k-hat needs."""
        return share_above(self.k_hat, self.num_particles)

    @property
    def is_lower_bound(self) -> bool:
        """Whether `value` is no more than a lower bound: k-hat is too high for over a tenth of the data,
        or unknown.

        Then more particles, or a better guide, would raise it by more than any error that is known.
        """
        return bool(self.why_lower_bound)

    @property
    def why_lower_bound(self) -> str:
        """The reason of `is_lower_bound`; empty where the value may stand."""
        if self.num_temperatures:
            return f"annealed, T = {self.num_temperatures:,}; evaluate.sandwich tells how far below"
        return why_lower_bound(self.k_hat, self.ess, self.num_particles)

    def lines(self) -> list[tuple[str, str, str]]:
        """(name, value, remark) of each line of the table."""
        name, remark = "-log p(x)", f"K = {self.num_particles:,}"
        if self.num_temperatures:
            value = plus_minus(-self.value, self.standard_error)
            size = f"{float(self.ess.median()):.1f}"
            return [
                ("-log p(x) ≤", value, f"{remark}, {self.why_lower_bound}"),
                ("effective sample size", size, f"median, of {self.num_particles:,} chains"),
            ]
        if self.is_lower_bound:
            name = "-log p(x) ≤"
            remark = f"! a lower bound on log p(x), {remark}: {self.why_lower_bound}"
        elif math.isfinite(self.monte_carlo_standard_error):
            remark += f", Monte Carlo error {self.monte_carlo_standard_error:.2g}"
        unreliable = (
            "too few particles" if math.isnan(self.share_unreliable) else f"{self.share_unreliable:.1%}"
        )
        return [
            (name, plus_minus(-self.value, self.standard_error), remark),
            (
                "effective sample size",
                f"{float(self.ess.median()):.1f}",
                f"median, of {self.num_particles:,}",
            ),
            (
                f"k-hat above {self.k_hat_limit:.2g}",
                unreliable,
                "of the data" if unreliable.endswith("%") else "",
            ),
        ]

    def __str__(self) -> str:
        rate = ("decoder passes", f"{self.decoder_passes_per_second:,.0f}", "per second")
        return rows(f"{len(self.per_datum):,} data, nats per datum", [*self.lines(), rate])


@one_thread
@checked()
def log_likelihood(
    pair: Pair,
    data: Any,
    num_particles: int | None = None,
    *,
    method: Literal["importance", "ais"] = "importance",
    num_temperatures: int = 500,
    num_leapfrogs: int = 10,
    start: Start = "guide",
    batch_size: int | None = None,
    chunk: int | None = None,
    seed: int | None = 0,
    progress: bool = True,
    capture: Capture = "auto",
) -> LogLikelihood:
    r"""The log-likelihood of each datum by importance sampling with the guide as proposal, or by annealing.

    .. math:: \log p(x_i) \approx \log \frac{1}{K} \sum_k w_{ki}, \qquad
        w_{ki} = \frac{p(x_i, z_{ki})}{q(z_{ki} \mid x_i)}

    Low in expectation, and rising to log p(x_i) with K; where k-hat says that it is still far from there, the
    result says that it is a lower bound and withholds the Monte Carlo error. A batch's particles come in
    chunks of which only the log-weights are kept, so the memory does not grow with K but for those
    (batch_size, K) numbers. The `data` plate's scale does not enter; masks and a user's own scale do.

    Of a deep decoder importance sampling is often a nat short with thousands of draws. Annealed importance
    sampling, `method="ais"`, moves K chains of each datum from the guide through T temperatures to the
    posterior
    and is tighter at equal time; it too is low in expectation, and `evaluate.sandwich` tells how low.

    Args:
        pair: model and guide; their modules are in eval mode meanwhile.
        data: a `data.Split`, a Tensor (N, *event), a tuple of Tensors (N, ...), or what
            `data.as_split` takes.
        num_particles: K, draws from the guide for each datum, 1,000 by default; or chains of "ais", 16.
        method: "importance", or "ais": annealed importance sampling.
        num_temperatures: T, of "ais".
        num_leapfrogs: the most gradients of one move of "ais".
        start: where "ais" begins, as in `sandwich`.
        batch_size: data at a time; chosen together with `chunk` for the cache where None.
        chunk: particles at a time, at most; lower it where memory is short.
        seed: of the draws; the caller's random numbers stay as they were. None draws from those.
        progress: show a progress bar.
        capture: compute the log-weights, or the gradients of "ais", with a compiled graph
            (`ppl_vae.capture`), on the same draws: the result is that of False to rounding, which long
            chains make visible. "auto" does so where there are enough of them to repay
            the compilation, which takes 5 to 20 s, and says in a warning when it cannot; True always.

    Raises:
        CaptureError: with `capture=True`, for a pair that cannot be captured.
        PairError: latents outside the `data` plate (they are named), a pair that breaks the contract,
            or a NaN (the datum and the site are named).
        ValueError: data that is empty or has lengths that differ, or a number that is not positive.

    Burda, Grosse and Salakhutdinov, Importance Weighted Autoencoders, arXiv:1509.00519; Wu, Burda,
    Salakhutdinov and Grosse, On the Quantitative Analysis of Decoder-Based Generative Models,
    arXiv:1611.04273.

    >>> from ppl_vae import Pair, guides, models, nets
    >>> pair = Pair(models.LinearGaussian(2, 5), guides.MeanField(nets.MLPEncoder((5,), 2)))
    >>> result = log_likelihood(pair, torch.randn(8, 5), num_particles=200, progress=False)
    >>> result.per_datum.shape, result.ess.shape, result.k_hat.shape
    (torch.Size([8]), torch.Size([8]), torch.Size([8]))
    """
    check_pair_type(pair)
    if method not in ("importance", "ais"):
        raise ValueError(f"method must be 'importance' or 'ais', got {method!r}")
    started = time.perf_counter()
    if method == "ais":
        chains = 16 if num_particles is None else num_particles
        with questioning(pair, seed, pair.device):
            source = to_data(data, pair)
            log_weight = annealed(
                pair, source, num_temperatures, chains, num_leapfrogs, start, batch_size, progress, capture
            )
        return _annealed(log_weight, num_temperatures, num_leapfrogs, time.perf_counter() - started)
    num_particles = 1000 if num_particles is None else num_particles
    with questioning(pair, seed, pair.device):
        source, runs = batches(
            pair, data, num_particles,
            batch_size=batch_size, chunk=chunk, progress=progress, description="log p(x)",
        )  # fmt: skip
        # Filled in place: a small tensor kept from each batch would lie in a hole that a chunk left on
        # the heap, the next chunk would not fit there, and the heap would grow by a chunk for each batch
        per_datum, errors, ess, k_hat = torch.empty(4, len(source), dtype=torch.float64)
        compute = LogWeights(pair, source, capture)
        for batch in runs:
            log_weight = log_weights(batch, compute)
            rows_done = slice(batch.first, batch.first + len(batch))
            per_datum[rows_done], errors[rows_done], ess[rows_done] = from_log_weight(log_weight)
            k_hat[rows_done] = torch.from_numpy(arviz_support.k_hat(log_weight.numpy()))
            certain = compute.at_one_value
            # K draws of one value are one draw, and of the other values' weights nothing is known
            ess[rows_done][certain], k_hat[rows_done][certain] = 1.0, math.inf
            errors[rows_done][certain] = math.nan
    seconds = time.perf_counter() - started
    monte_carlo = float(errors.square().sum().sqrt()) / len(source)
    if why_lower_bound(k_hat, ess, num_particles):
        monte_carlo = math.nan
    return LogLikelihood(
        value=float(per_datum.mean()),
        standard_error=standard_error(per_datum),
        monte_carlo_standard_error=monte_carlo,
        num_particles=num_particles,
        decoder_passes_per_second=len(source) * num_particles / seconds,
        per_datum=per_datum,
        per_datum_monte_carlo_standard_error=errors,
        ess=ess,
        k_hat=k_hat,
    )


def _annealed(log_weight: Tensor, num_temperatures: int, num_leapfrogs: int, seconds: float) -> LogLikelihood:
    """The result of chains' log-weights, (N, K)."""
    per_datum, errors, ess = from_log_weight(log_weight)
    passes = log_weight.numel() * num_temperatures * (num_leapfrogs + 1) / 2  # the mean length of a move
    return LogLikelihood(
        value=float(per_datum.mean()),
        standard_error=standard_error(per_datum),
        monte_carlo_standard_error=math.nan,
        num_particles=log_weight.shape[1],
        decoder_passes_per_second=passes / seconds,
        per_datum=per_datum,
        per_datum_monte_carlo_standard_error=errors,
        ess=ess,
        k_hat=torch.from_numpy(arviz_support.k_hat(log_weight.numpy())),
        num_temperatures=num_temperatures,
    )


def log_weights(batch: Batch, compute: LogWeights) -> Tensor:
    """(B, K) log-weights of one batch, on the host, in the precision of the pair."""
    log_weight = torch.empty(0)
    done = 0
    for part in compute.chunks(batch):
        if done == 0:
            log_weight = part.new_empty(sum(batch.chunks), len(batch))
        log_weight[done : done + len(part)] = part
        done += len(part)
    if log_weight.sum(0).isnan().any():
        with random_numbers(0, batch.pair.device):
            particles = batch.draw(batch.chunks[0], check=False)
        refuse_nan(log_weight.sum(0), particles, batch.first)
    return log_weight.T.contiguous().cpu()


def from_log_weight(log_weight: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    r"""Log-likelihood, its Monte Carlo standard error and the effective sample size, each (B,), float64.

    .. math:: \mathrm{Var}\bigl(\log \tfrac{1}{K} \textstyle\sum_k w_k\bigr) \approx
        \frac{1}{K (K - 1)} \sum_k \Bigl(\frac{w_k}{\bar w} - 1\Bigr)^2

    Args:
        log_weight: (B, K).
    """
    log_weight = log_weight.double()
    num_particles = log_weight.shape[1]
    total = log_weight.logsumexp(1)
    value = total - math.log(num_particles)
    # from the logarithms again: squares of small weights would vanish
    ess = (2 * total - (2 * log_weight).logsumexp(1)).exp().nan_to_num(nan=0.0)
    if num_particles == 1:
        error = torch.full_like(total, math.nan)
    else:
        # w / mean - 1, rather than K / ESS - 1, so that equal weights give zero and not rounding's root
        deviation = (log_weight - value.unsqueeze(1)).expm1()
        error = deviation.square().sum(1).sqrt() / math.sqrt(num_particles * (num_particles - 1))
    return value, error, ess
