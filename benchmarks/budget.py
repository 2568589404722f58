"""A training of so many seconds of one processor, and its curve: what the benchmarks of dear models share."""

from __future__ import annotations

import math
import os
import time
from collections.abc import Callable, Iterator
from typing import Any

import torch

import ppl_vae as pv
from ppl_vae import data, estimators
from ppl_vae.kl import KLPlan, LinearWarmup
from ppl_vae.train.step import Step


class Budget:
    """How much of the processor's seconds, or of the wall's where those end first, is used up."""

    def __init__(self, seconds: float, wall: float) -> None:
        self.seconds, self.wall = seconds, wall
        self._started = processor_seconds(), time.perf_counter()

    def used(self) -> tuple[float, float]:
        """(processor, wall) seconds."""
        return processor_seconds() - self._started[0], time.perf_counter() - self._started[1]

    def fraction(self) -> float:
        """From 0 to 1."""
        processor, wall = self.used()
        return min(1.0, max(processor / self.seconds, wall / self.wall))


def processor_seconds() -> float:
    """What this process and its compilers have used."""
    return sum(os.times()[:4])


def judged(
    take_step: Callable[[float], object], judge: Callable[[], dict[str, float]], seconds: float, points: int
) -> dict[str, Any]:
    """Steps until the processor's seconds are over, compiling counted; each is told what share of them is.

    Judged so many times on the way, outside of the time.
    """
    used, steps, curve = 0.0, 0, []
    while True:
        if used >= seconds * len(curve) / points:
            curve.append({"seconds": round(used, 1), "steps": steps, **judge()})
            print(curve[-1], flush=True)
            if used >= seconds:
                return {"steps": steps, "curve": curve}
        started = processor_seconds()
        take_step(used / seconds)
        used, steps = used + processor_seconds() - started, steps + 1


def cosine(learning_rate: float, fraction: float) -> float:
    """A rate that falls to zero."""
    return learning_rate * 0.5 * (1 + math.cos(math.pi * min(1.0, fraction)))


def train(
    pair: pv.Pair,
    split: data.Split,
    budget: Budget,
    batch: int,
    learning_rate: float,
    skip_norm: float | None = None,
    warmup: float = 0.0,
    every: int = 50,
) -> Iterator[dict[str, float]]:
    """Train captured until the budget is used up, compiling counted; the means of every so many steps."""
    torch.manual_seed(0)
    optimizer = torch.optim.Adamax(pair.parameters(), lr=learning_rate)
    plan = None
    if warmup:
        sites = tuple(estimators.ELBO().draw(pair.model, pair.guide, *split.take(2).tensors()).latent_sites)
        plan = KLPlan(LinearWarmup(warmup, start=0.05), sites, 1, 1)
    limits = {"clip_norm": 200.0, "skip_norm": skip_norm}
    step = Step(pair, estimators.MeanFieldELBO(), optimizer, **limits, kl=plan, capture=True)  # type: ignore[arg-type]
    count = 0
    pair.train()
    while (fraction := budget.fraction()) < 1:
        index = torch.randperm(len(split))[:batch]
        step.set_learning_rate(cosine(learning_rate, fraction))
        step.set_epoch(fraction)
        step.on(split, index)
        count += 1
        if count % every == 0:
            processor, wall = budget.used()
            yield {
                "step": count,
                "processor seconds": round(processor, 1),
                "wall": round(wall, 1),
                **step.pop_means(),
            }
    pair.eval()
