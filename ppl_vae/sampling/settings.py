"""How to draw from a posterior."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, get_args

from ppl_vae.capture.function import Capture
from ppl_vae.sampling.annealing import pilot_steps
from ppl_vae.sampling.bases import Start

Method = Literal["guide", "importance", "resample", "hmc", "anneal"]
METHODS: tuple[str, ...] = get_args(Method)


@dataclass(frozen=True)
class Settings:
    """How to draw; see `evaluate.posterior`."""

    method: str
    num_samples: int
    num_chains: int
    warmup: int
    num_leapfrogs: int
    target_acceptance: float
    num_temperatures: int
    num_proposals: int
    start: Start
    capture: Capture = "auto"

    @property
    def total(self) -> int:
        """The steps of a progress bar."""
        if self.method == "hmc":
            return self.warmup + self.num_samples
        if self.method == "anneal":
            return self.num_temperatures + pilot_steps(self.num_temperatures) + 1
        return self.num_proposals if self.method == "resample" else self.num_samples
