"""One draw of a gradient as a captured function, for what cannot be mapped, and when capturing draws pays."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

from ppl_vae.capture.function import CapturedFunction
from ppl_vae.core.isolation import questioning
from ppl_vae.core.pair import Pair
from ppl_vae.train.accepted import check_equality, check_objective, equal_of
from ppl_vae.train.objective import Objective


def captured_draw(
    pair: Pair,
    estimator: Any,
    batch: tuple[Tensor, ...],
    parameters: Callable[[], list[Tensor]],
    *,
    required: bool,
) -> CapturedFunction:
    """A function of the batch: the bound, (), and its gradient, (P,), of one draw.

    Args:
        parameters: those that stand in the pair at the time.
        required: see `CapturedFunction`.

    Raises:
        CaptureError: for an estimator that no graph can stand for.
    """
    equal = equal_of(estimator)
    objective = Objective(pair, equal)
    check_objective(objective, equal)
    with questioning(pair, 0, pair.device):
        check_equality(estimator, equal, pair, batch)

    def once(batch: Sequence[Tensor]) -> list[Tensor]:
        with torch.enable_grad():
            loss = objective(*batch)[0]
            now = parameters()
            gradients: Sequence[Tensor | None] = [None] * len(now)
            if loss.requires_grad:
                gradients = torch.autograd.grad(loss, now, allow_unused=True)
        return [-loss.detach(), flat(now, gradients)]

    return CapturedFunction(once, [objective], [equal], required=required)


def flat(parameters: Sequence[Tensor], losses: Sequence[Tensor | None]) -> Tensor:
    """(P,): minus the gradients of a loss, zero for a parameter that takes no part."""
    return torch.cat(
        [
            torch.zeros_like(p).flatten() if g is None else -g.flatten()
            for p, g in zip(parameters, losses, strict=True)
        ]
    )
