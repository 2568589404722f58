"""One draw of a gradient as a captured function, for what cannot be mapped, and when capturing draws pays."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

from ppl_vae.capture.accepted import check_equality, check_objective, equal_of
from ppl_vae.capture.function import CapturedFunction, can_compile
from ppl_vae.isolation import questioning
from ppl_vae.pair import Pair
from ppl_vae.step import Objective

# From how many numbers (draws times particles times those of the batch's largest tensor) "auto" compiles a
# map, which on a CPU saves 10 to 25 ns of each, and from how many draws a loop, which saves 1 to 2 ms of each,
# against 2 to 6 s of compilation (benchmarks/gradients.py). Elsewhere it is a guess.
WORTH_ELEMENTS = {"cpu": 2**29}
WORTH_ELEMENTS_ELSEWHERE = 2**35
WORTH_DRAWS = 4000


def worth_capturing(draws: int, elements: int | None, device: torch.device) -> bool:
    """Whether so many draws repay the compilation.

    Args:
        elements: of a map, the numbers in one term of a draw's log-weights; None for a loop.
    """
    enough = WORTH_DRAWS
    if elements is not None:
        enough = WORTH_ELEMENTS.get(device.type, WORTH_ELEMENTS_ELSEWHERE) // elements
    return draws >= enough and can_compile(device)


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
