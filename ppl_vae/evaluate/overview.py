"""Everything that is asked of a trained pair first, in one result and one table."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

from ppl_vae.capture.function import Capture
from ppl_vae.core.checks import checked
from ppl_vae.core.pair import Pair
from ppl_vae.evaluate.activity import ActiveUnits, active_units
from ppl_vae.evaluate.bounds_on_data import Bounds, bounds
from ppl_vae.evaluate.importance_sampling import LogLikelihood, log_likelihood
from ppl_vae.evaluate.lines import rows
from ppl_vae.evaluate.shortfall import Shortfall, is_doubtful, shortfall


@dataclass(frozen=True, eq=False)
class Summary:
    """Bounds, log-likelihood and active units of a pair on one data set; `str` gives the table.

    `shortfall` is how far the log-likelihood by importance sampling falls short, where k-hat was too high.
    """

    bounds: Bounds
    log_likelihood: LogLikelihood
    active_units: ActiveUnits
    shortfall: Shortfall | None = None

    def __str__(self) -> str:
        lines = [*self.bounds.lines(), *self.log_likelihood.lines()]
        lines += [*(self.shortfall.lines() if self.shortfall else []), *self.active_units.lines()]
        return rows(f"{len(self.bounds.per_datum):,} data, nats per datum", lines)


@checked()
def summary(
    pair: Pair,
    data: Any,
    num_particles: int | None = None,
    *,
    method: Literal["auto", "importance", "ais"] = "auto",
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
        method: of the log-likelihood: "importance", "ais", or "auto": importance sampling, and where k-hat is
            too high for over a tenth of the data, annealing of fifty of them, which tells how far it falls
            short (`Summary.shortfall`).
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
    if method not in ("auto", "importance", "ais"):
        raise ValueError(f"method must be 'auto', 'importance' or 'ais', got {method!r}")
    common: dict[str, Any] = {"batch_size": batch_size, "seed": seed, "progress": progress}
    elbo = bounds(pair, data, **common)
    likelihood = log_likelihood(
        pair,
        data,
        num_particles,
        method="ais" if method == "ais" else "importance",
        num_temperatures=num_temperatures,
        chunk=chunk,
        capture=capture,
        **common,
    )
    active = active_units(pair, data, threshold, **common)
    doubtful = method == "auto" and is_doubtful(likelihood)
    short = shortfall(pair, data, likelihood, seed=seed, progress=progress) if doubtful else None
    return Summary(elbo, likelihood, active, short)
