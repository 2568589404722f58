"""A score per time step, word or pixel, instead of per datum."""

from __future__ import annotations

from typing import Any, NamedTuple

import torch
from torch import Tensor


class PerStep(NamedTuple):
    """A score in nats per step.

    Attributes:
        value: the data's scores, summed, over their steps, summed.
        standard_error: of `value`, as of a ratio of two means over the data.
    """

    value: float
    standard_error: float


def per_step(result: Any, steps: Tensor) -> PerStep:
    r"""What `bounds` or `log_likelihood` found, per step of data that have unequal numbers of them.

    .. math:: \frac{\sum_i \mathcal{L}_i}{\sum_i T_i}

    It is what is reported of sequences: each step counts alike, so that a long one counts for more.

    Args:
        result: has `per_datum`, (N,) nats.
        steps: (N,) numbers of steps, T_i; an empty sequence has none, and its score is 0.

    Raises:
        ValueError: for other than one positive number for each datum that is not empty, or where all are.

    >>> from ppl_vae.evaluate import bounds
    >>> from ppl_vae.testing.state_space import state_space
    >>> oracle = state_space(lengths=(4, 2))
    >>> per_step(bounds(oracle.pair, oracle.batch), oracle.batch[1])  # doctest: +ELLIPSIS
    PerStep(value=-..., standard_error=...)
    """
    score = torch.as_tensor(result.per_datum).double().cpu()
    count = torch.as_tensor(steps).double().cpu()
    if count.shape != score.shape or not _are_steps(count, score):
        raise ValueError(
            f"steps must be one positive number for each of the {len(score)} data, 0 for an empty one, whose "
            "score is 0, and not for all, got shape "
            f"{tuple(count.shape)} with values from {float(count.min()) if count.numel() else None}"
        )
    value = score.sum() / count.sum()
    left = (score - value * count) / count.mean()
    error = left.std() / len(left) ** 0.5 if len(left) > 1 else torch.tensor(float("nan"))
    return PerStep(float(value), float(error))


def _are_steps(count: Tensor, score: Tensor) -> bool:
    there = (count > 0) & count.isfinite()
    return bool((there | (count == 0) & (score == 0)).all() & there.any())
