"""Expectations of an estimator on an oracle: its bound and gradients,
enumerated or averaged over many draws.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from pyro.poutine.messenger import Messenger
from torch import Tensor

from ppl_vae.core.drawing import draw as draw_particles
from ppl_vae.estimators import Estimator
from ppl_vae.testing.oracles import Oracle

# few chunks, since of tensors this small a gradient of many copies takes as long as one of few
_CHUNKS, _COPIES = 20, 3
_MOST_CONFIGURATIONS = 4**8


@dataclass(frozen=True)
class Expectations:
    """A sixtieth of the copies of a batch that an averaged gradient takes, and the seed of its draws."""

    repeats: int
    seed: int

    def pathwise(self, estimator: Estimator, oracle: Oracle) -> Tensor:
        """The reference: the bound's own gradient through the draws, with the same noise."""
        return self.gradients(estimator, oracle, Estimator.surrogate)

    def enumerated(self, estimator: Estimator, oracle: Oracle) -> Tensor | None:
        """The exact gradient of the bound's expectation, over all draws of two bits by K particles.

        Where they are too many, the plain score function's, which has the same expectation.
        """
        pair, (x,) = oracle.pair, oracle.batch
        num_particles = estimator.num_particles
        if not estimator.fixed_size:
            return None
        if 4**num_particles > _MOST_CONFIGURATIONS:
            return self.pathwise(estimator, oracle)
        bits = torch.cartesian_prod(torch.arange(2.0), torch.arange(2.0)).to(x)
        draws = torch.stack([bits[list(i)] for i in itertools.product(range(4), repeat=num_particles)], 1)
        values = draws.repeat_interleave(len(x), 1)  # (K, configurations * B, 2)
        particles = draw_particles(
            pair.model,
            pair.guide,
            (x.repeat(draws.shape[1], 1),),
            num_particles=num_particles,
            guide_handler=_Given(values if num_particles > 1 else values[0]),
        )
        probability = particles.log_draw["z"].sum(0).exp()
        loss = -(probability * estimator.bound(particles)).sum() / len(x)
        return flat(torch.autograd.grad(loss, list(pair.parameters())))

    def gradients(
        self, estimator: Estimator, oracle: Oracle, surrogate: Callable[..., Tensor] | None = None
    ) -> Tensor:
        """(chunks, parameters): gradients of the mean loss of a datum."""
        torch.manual_seed(self.seed)
        pair, batch = oracle.pair, tuple(t.repeat(_COPIES * self.repeats, 1) for t in oracle.batch)
        parameters, gradients = list(pair.parameters()), []
        count = 0
        for chunk in range(_CHUNKS):
            torch.manual_seed(self.seed + chunk)
            if surrogate is None:
                loss = estimator.total(estimator.draw(pair.model, pair.guide, *batch))
            else:
                if not (count and estimator.fixed_size):
                    count = estimator.draw(pair.model, pair.guide, *batch).num_particles
                torch.manual_seed(self.seed + chunk)
                plain = draw_particles(pair.model, pair.guide, batch, num_particles=count)
                loss = -surrogate(estimator, plain).sum()
            found = torch.autograd.grad(loss, parameters, allow_unused=True)
            gradients.append(_filled(found, parameters) / len(batch[0]))
        return torch.stack(gradients)

    def bound(self, estimator: Estimator, oracle: Oracle) -> tuple[float, float]:
        """The mean of the bound and its standard error."""
        torch.manual_seed(self.seed)
        pair, repeats = oracle.pair, 4 * self.repeats
        batch = tuple(t.repeat(repeats, 1) for t in oracle.batch)
        with torch.no_grad():
            if not estimator.fixed_size:
                few = tuple(t.repeat(8, 1) for t in oracle.batch)
                draws = [
                    estimator.bound(estimator.draw(pair.model, pair.guide, *few)).mean() for _ in range(300)
                ]
                values = torch.stack(draws)
            else:
                values = (
                    estimator.bound(estimator.draw(pair.model, pair.guide, *batch)).view(repeats, -1).mean(1)
                )
        return values.mean().item(), values.std().item() / math.sqrt(len(values))

    def loss(self, estimator: Estimator, oracle: Oracle) -> tuple[float, Tensor]:
        """The loss of the batch and its gradient, at one draw."""
        pair, parameters = oracle.pair, list(oracle.pair.parameters())
        torch.manual_seed(self.seed)
        loss = estimator.differentiable_loss(pair.model, pair.guide, *oracle.batch)
        return loss.item(), _filled(torch.autograd.grad(loss, parameters, allow_unused=True), parameters)


def is_guide(oracle: Oracle) -> Tensor:
    """Which of the pair's numbers are the guide's."""
    sizes = {
        role: sum(p.numel() for p in getattr(oracle.pair, role).parameters()) for role in ("model", "guide")
    }
    return torch.arange(sizes["model"] + sizes["guide"]) >= sizes["model"]


class _Given(Messenger):
    """Gives the latent site these values."""

    def __init__(self, values: Tensor) -> None:
        super().__init__()
        self.values = values

    def _pyro_sample(self, msg: Any) -> None:
        if msg["name"] == "z":
            msg["value"], msg["done"] = self.values, True


def _filled(gradients: Any, parameters: Sequence[Tensor]) -> Tensor:
    pairs = zip(gradients, parameters, strict=True)
    return flat([torch.zeros_like(p) if gradient is None else gradient for gradient, p in pairs])


def flat(tensors: Any) -> Tensor:
    """All numbers of some tensors in one row."""
    return torch.cat([tensor.detach().flatten() for tensor in tensors])
