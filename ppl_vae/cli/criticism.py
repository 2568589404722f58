"""Whether the guide and the model of a report's pair are right, as far as few simulations tell."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, TypeVar

from ppl_vae import evaluate
from ppl_vae.cli.showing import shown_and_held
from ppl_vae.core.isolation import questioning
from ppl_vae.core.pair import Pair
from ppl_vae.core.sites import PairError
from ppl_vae.data import Split, for_pair
from ppl_vae.evaluate import Calibration, PredictiveCheck

_DRAWS, _REPLICATES, _DATA = 50, 50, 500

Result = TypeVar("Result")


@dataclass(frozen=True, eq=False)
class Criticism:
    """Two checks of a pair.

    Attributes:
        calibration: of the guide, on data that the model draws.
        check: of the model, by statistics of the data; None where there is no such check.
        notes: why one is missing.
    """

    calibration: Calibration | None
    check: PredictiveCheck | None
    notes: tuple[str, ...] = ()

    def __str__(self) -> str:
        return "\n".join(
            str(each) for each in (self.calibration, self.check, *self.notes) if each is not None
        )

    def numbers(self) -> dict[str, Any]:
        """The numbers as plain values, for a JSON file."""
        numbers: dict[str, Any] = {}
        if self.calibration is not None:
            departs = list(self.calibration.departs)
            numbers["calibration"] = {"p_value": self.calibration.p_value, "departs": departs}
        if self.check is not None:
            values = self.check.p_values.tolist()
            numbers["predictive_check"] = dict(zip(self.check.names, values))
        return numbers


def criticise(pair: Pair, split: Split, num_simulations: int, seed: int) -> Criticism:
    """Calibrate the guide on so many simulated data, and hold the data's statistics against replicates."""
    seen, notes = for_pair(split, pair), []

    def tried(name: str, ask: Callable[[], Result]) -> Result | None:
        try:
            return ask()
        except (ValueError, PairError) as error:  # such as a model without a prior
            notes.append(f"no {name}: {error}")
            return None

    def calibrated() -> Calibration:
        settings: dict[str, Any] = {}
        with questioning(pair, seed, pair.device):
            batch = seen.take(num_simulations).tensors()
        if len(batch) > 1:  # what a conditional model is told
            settings = {"like": batch, "given": shown_and_held(pair, batch, seed)[1]}
        return evaluate.calibration(
            pair, len(batch[0]) if settings else num_simulations, _DRAWS, seed=seed, **settings
        )

    calibration = tried("calibration", calibrated)
    check = tried(
        "predictive check",
        lambda: evaluate.predictive_check(pair, split, num_replicates=_REPLICATES, num_data=_DATA, seed=seed),
    )
    return Criticism(calibration, check, tuple(notes))
