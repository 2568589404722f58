"""A recurrent net over padded sequences, along them, against them, or both ways."""

from __future__ import annotations

from typing import Literal, get_args

import torch
from torch import Tensor, nn

from ppl_vae.nets.shapes import positive_size

Direction = Literal["forwards", "backwards", "both"]
"""Which steps a feature of step t has seen: 1 ... t, t ... T, or all of them."""


class Recurrent(nn.Module):
    r"""Features of each step of a sequence, from a gated recurrent net that reads it one way or both.

    .. math:: h_t = \mathrm{GRU}(x_t, h_{t-1}) \quad\text{(forwards)}, \qquad
        h_t = \mathrm{GRU}(x_t, h_{t+1}) \quad\text{(backwards)}, \qquad \text{or both side by side}

    Shapes: x `(B, T, in_features)`, there `(B, T)` booleans, True for the first steps up to each sequence's
    end, to `(B, T, num_features)`. What is there does not depend on what is not: backwards the net begins at
    each sequence's own end. Features of steps that are not there mean nothing.

    Args:
        in_features: of a step.
        hidden: width of the recurrent state of each direction.
        direction: see above.

    Raises:
        ValueError: for another direction, a width below 1, or data of another shape.

    Cho et al., Learning Phrase Representations using RNN Encoder-Decoder, arXiv:1406.1078.

    >>> Recurrent(88, hidden=16, direction="both")(torch.zeros(4, 10, 88)).shape
    torch.Size([4, 10, 32])
    """

    def __init__(self, in_features: int, hidden: int = 100, direction: Direction = "backwards") -> None:
        super().__init__()
        if direction not in get_args(Direction):
            raise ValueError(f"direction must be one of {list(get_args(Direction))}, got {direction!r}")
        self.in_features = positive_size("in_features", in_features)
        self.hidden = positive_size("hidden", hidden)
        self.direction = direction
        self.num_features = hidden * (2 if direction == "both" else 1)
        ways = ("forwards", "backwards") if direction == "both" else (direction,)
        self.cells = nn.ModuleDict({way: nn.GRU(in_features, hidden, batch_first=True) for way in ways})

    def forward(self, x: Tensor, there: Tensor | None = None) -> Tensor:
        """(B, T, num_features)."""
        if x.dim() != 3 or x.shape[-1] != self.in_features:
            raise ValueError(
                f"Recurrent: expected sequences (B, T, {self.in_features}), got {tuple(x.shape)}: build it "
                f"with in_features={x.shape[-1]}"
            )
        found = []
        for way, cell in self.cells.items():
            order = None if way == "forwards" else _turned(x, there)
            found.append(cell(x)[0] if order is None else _taken(cell(_taken(x, order))[0], order))
        return torch.cat(found, -1)


def _turned(x: Tensor, there: Tensor | None) -> Tensor:
    """(B, T): the steps from each sequence's end to its beginning, then padding; its own inverse."""
    step = torch.arange(x.shape[1], device=x.device)
    if there is None:
        return step.flip(0).expand(len(x), -1)
    return torch.where(there, there.sum(-1, keepdim=True) - 1 - step, step)


def _taken(x: Tensor, order: Tensor) -> Tensor:
    return x.gather(1, order.unsqueeze(-1).expand(-1, -1, x.shape[-1]))
