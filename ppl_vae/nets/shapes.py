"""Events and leading batch dims: checked, flattened, folded around a convolution, without copies."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn


def check_event(x: Tensor, shape: tuple[int, ...]) -> None:
    """Raise ValueError, naming both shapes, unless x is `(*batch, *shape)`."""
    if x.shape[-len(shape) :] != shape:
        wanted = ", ".join(map(str, shape))
        raise ValueError(
            f"this net expects input of shape (*batch, {wanted}), got {tuple(x.shape)}: "
            f"{_event_fix(x, shape)}"
        )


def _event_fix(x: Tensor, shape: tuple[int, ...]) -> str:
    if 1 < x.dim() <= len(shape):
        event, missing = tuple(x.shape[1:]), len(shape) - x.dim() + 1
        data = f"{len(x)} data of shape {event} lack {missing} of the dims of {tuple(shape)}"
        if len(shape) == 3 and missing == 1 and (shape[0] == 1 or event == tuple(shape[1:])):
            return f"{data}, that of the channels: x.unsqueeze(1)" + _rebuilt((1, *event), shape)
        return f"{data}: reshape the data, or build the net for their shape"
    event = tuple(x.shape[max(0, x.dim() - len(shape)) :])
    return (
        f"data of shape {event} are not of shape {tuple(shape)}: reshape the input or build the net for its "
        "shape"
    )


def _rebuilt(event: tuple[int, ...], shape: tuple[int, ...]) -> str:
    return "" if event == tuple(shape) else f", and build the net for {event}"


def positive_sizes(name: str, sizes: tuple[int, ...] | list[int], minimum: int = 0) -> tuple[int, ...]:
    """Return sizes as a tuple, or raise ValueError unless they are positive integers, `minimum` or more."""
    if (
        isinstance(sizes, str | int)
        or len(sizes) < minimum
        or not all(isinstance(size, int) and size > 0 for size in sizes)
    ):
        raise ValueError(f"{name} must be a sequence of positive integers, got {sizes!r}")
    return tuple(sizes)


def positive_size(name: str, size: int) -> int:
    """Return a size, or raise ValueError unless it is a positive integer."""
    if not isinstance(size, int) or size < 1:
        raise ValueError(f"{name} must be a positive integer, got {size!r}")
    return size


def image_sides(shape: tuple[int, ...]) -> tuple[int, ...]:
    """The sides of an image as a convolutional net halves it: while the side is even and above 4.

    Raises:
        ValueError: unless the shape is `(channels, side, side)` with a side from 8, divisible by 4.

    >>> image_sides((1, 28, 28)), image_sides((3, 64, 64))
    ((28, 14, 7), (64, 32, 16, 8, 4))
    """
    if len(shape) != 3 or shape[1] != shape[2] or shape[1] < 8 or shape[1] % 4:
        raise ValueError(
            f"a convolutional net needs square images (channels, side, side) whose side is at least 8 and "
            f"divisible by 4, got shape {tuple(shape)}: {_image_fix(tuple(shape))}"
        )
    sides = [shape[1]]
    while sides[-1] % 2 == 0 and sides[-1] > 4:
        sides.append(sides[-1] // 2)
    return tuple(sides)


def _image_fix(shape: tuple[int, ...]) -> str:
    if len(shape) == 2:
        return f"the channels are missing: x.unsqueeze(1) makes images of shape {(1, *shape)}. Or use an MLP"
    if len(shape) != 3:
        return "use an MLP"
    side = max(8, -(-max(shape[1:]) // 4) * 4)
    down, right = side - shape[1], side - shape[2]
    padding = (right // 2, right - right // 2, down // 2, down - down // 2)
    return (
        f"pad or crop the images, torch.nn.functional.pad(x, {padding}) makes {(shape[0], side, side)} of "
        f"them, or use an MLP"
    )


class Flatten(nn.Module):
    """Flatten the event of a datum: `(*batch, *shape)` to `(*batch, prod(shape))`, as a view if possible.

    Args:
        shape: the event shape.

    >>> Flatten((1, 8, 8))(torch.zeros(3, 5, 1, 8, 8)).shape
    torch.Size([3, 5, 64])
    """

    def __init__(self, shape: tuple[int, ...]) -> None:
        super().__init__()
        self.shape = positive_sizes("shape", shape, minimum=1)
        self.num_features = math.prod(self.shape)

    def forward(self, x: Tensor) -> Tensor:
        check_event(x, self.shape)
        return x.flatten(-len(self.shape)) if len(self.shape) > 1 else x

    def extra_repr(self) -> str:
        return f"shape={self.shape}"


class OverImages(nn.Module):
    """Run a stack of image layers over any leading dims: `(*batch, *shape)` to `(*batch, *out)`.

    The leading dims are folded into one and unfolded afterwards; both are views for contiguous input.

    Args:
        layers: a module from `(N, *shape)` to `(N, *out)`.
        shape: the event shape `(channels, height, width)` of the input.
        channels_last: keep the weights and run the layers in the channels_last memory format.
    """

    def __init__(self, layers: nn.Module, shape: tuple[int, ...], channels_last: bool = False) -> None:
        super().__init__()
        self.layers = layers
        self.shape = positive_sizes("shape", shape, minimum=3)
        self.channels_last = channels_last
        if channels_last:
            # A conversion of the weights here spares one in every call.
            layers.to(memory_format=torch.channels_last)  # type: ignore[call-overload]

    def forward(self, x: Tensor) -> Tensor:
        check_event(x, self.shape)
        batch = x.shape[:-3]
        if len(batch) != 1:
            x = x.flatten(0, -4) if batch else x.unsqueeze(0)
        if self.channels_last:
            x = x.contiguous(memory_format=torch.channels_last)
        out: Tensor = self.layers(x)
        return out if len(batch) == 1 else out.view(*batch, *out.shape[1:])

    def extra_repr(self) -> str:
        return f"shape={self.shape}, channels_last={self.channels_last}"
