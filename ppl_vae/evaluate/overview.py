"""Everything that is asked of a trained pair first, in one result and one table."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

from ppl_vae.capture.function import Capture
from ppl_vae.core.pair import Pair
from ppl_vae.evaluate.activity import ActiveUnits, active_units
from ppl_vae.evaluate.bounds_on_data import Bounds, bounds
from ppl_vae.evaluate.importance_sampling import LogLikelihood, log_likelihood
from ppl_vae.evaluate.lines import rows


@dataclass(frozen=True, eq=False)
class Summary:
    """Bounds, log-likelihood and active units of a pair on one data set; `str` gives the table."""

    bounds: Bounds
    log_likelihood: LogLikelihood
    active_units: ActiveUnits

    def __str__(self) -> str:
        lines = [*self.bounds.lines(), *self.log_likelihood.lines(), *self.active_units.lines()]
        return rows(f"{len(self.bounds.per_datum):,} data, nats per datum", lines)


def summary(
    pair: Pair,
    data: Any,
    num_particles: int | None = None,
    *,
    method: Literal["importance", "ais"] = "importance",
    num_temperatures: int = 500,
    threshold: float = 0.01,
    batch_size: int | None = None,
    chunk: int | None = None,
    seed: int | None = 0,
    progress: bool = True,
    capture: Capture = "auto",
) -> Summary:
    """The ELBO with its terms, the log-likelihood with its diagnostics, and the active units.

    Args:
        pair: model and guide; their modules are in eval mode meanwhile.
        data: a `data.Split`, a Tensor (N, *event) of at least two rows, a tuple of Tensors (N, ...),
            or what `data.as_split` takes.
        num_particles: K of the log-likelihood, see there; the ELBO is taken with K = 1.
        method: of the log-likelihood: "importance", or "ais" where k-hat calls its value a mere bound.
        num_temperatures: T of "ais".
        threshold: variance above which a latent unit counts as active.
        batch_size: data at a time; chosen for the cache where None.
        chunk: particles at a time, at most.
        seed: of the draws; the caller's random numbers stay as they were. None draws from those.
        progress: show progress bars.
        capture: compute the log-likelihood with a compiled graph; see `log_likelihood`.

    Raises:
        CaptureError: as `log_likelihood`.
        PairError, ValueError: as `bounds`, `log_likelihood` and `active_units`.
    """
    return Summary(
        bounds(pair, data, batch_size=batch_size, seed=seed, progress=progress),
        log_likelihood(
            pair,
            data,
            num_particles,
            method=method,
            num_temperatures=num_temperatures,
            batch_size=batch_size,
            chunk=chunk,
            seed=seed,
            progress=progress,
            capture=capture,
        ),
        active_units(pair, data, threshold, batch_size=batch_size, seed=seed, progress=progress),
    )
