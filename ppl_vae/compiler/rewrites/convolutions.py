"""Convolutions as a CPU's library runs them fastest, in place of what autograd asks for."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import product
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import pad

aten = torch.ops.aten

# oneDNN computes so many output channels of a transposed convolution at least, wanted or not
_CHANNELS = 16


class Convolutions:
    """What `make_fx` puts in place of convolutions of images while one function is traced.

    Images lie in the order of oneDNN, channels last, from one convolution to the next, and are brought
    there once: left to itself Inductor computes in both orders what a convolution and its gradient read.
    """

    def __init__(self) -> None:
        # by id, with the tensor itself so that it lives as long, and its version
        self._ordered: dict[int, tuple[Tensor, int, Tensor]] = {}

    def operators(self) -> dict[Any, Callable[..., Any]]:
        """By operator, for `make_fx`."""
        return {
            aten.convolution.default: self._convolution,
            aten.convolution_backward.default: self._convolution_backward,
        }

    def _convolution(self, x: Tensor, weight: Tensor, bias: Tensor | None, *options: Any) -> Any:
        stride, padding, dilation, transposed, output_padding, groups = options
        if x.dim() != 4 or _is_channels_last(x):
            return NotImplemented
        plain = groups == 1 and set(dilation) == {1} and not any(output_padding)
        whole = all(kernel % step == 0 for kernel, step in zip(weight.shape[2:], stride))
        if transposed and plain and whole and weight.shape[1] < _CHANNELS:
            result = transposed_convolution(self._channels_last(x), weight, stride, padding)
            return result if bias is None else result + bias.view(-1, 1, 1)
        return _plain(aten.convolution(self._channels_last(x), weight, bias, *options))

    def _convolution_backward(
        self, gradient: Tensor, x: Tensor, weight: Tensor, bias_sizes: Sequence[int] | None, *options: Any
    ) -> Any:
        *like, output_mask = options
        done = _is_channels_last(x) and _is_channels_last(gradient) and not output_mask[2]
        if x.dim() != 4 or done:
            return NotImplemented
        arguments = (self._channels_last(gradient), self._channels_last(x), weight, bias_sizes)
        to_x, to_weight, _ = aten.convolution_backward(*arguments, *like, [*output_mask[:2], False])
        # a sum of its own, which is fused with what makes the gradient
        to_bias = gradient.sum([0, 2, 3]) if output_mask[2] else None
        return None if to_x is None else _plain(to_x), to_weight, to_bias

    def _channels_last(self, x: Tensor) -> Tensor:
        kept = self._ordered.get(id(x))
        if kept is not None and kept[0] is x and kept[1] == x._version:
            return kept[2]
        if x.shape[1] == 1 or x.shape[2:].numel() == 1:  # the same memory in both orders
            ordered = x.contiguous().as_strided(x.shape, _strides(x))
        else:
            ordered = x.contiguous(memory_format=torch.channels_last)
        self._ordered[id(x)] = x, x._version, ordered
        return ordered


def transposed_convolution(
    x: Tensor, weight: Tensor, stride: Sequence[int], padding: Sequence[int]
) -> Tensor:
    r"""What every input pixel gives to every output pixel, as a 1 x 1 convolution, and then its sums.

    .. math:: y_{s q + r} = \sum_{j=0}^{k/s - 1} w_{r + s j}^\top x_{q - j}, \qquad 0 \le r < s,

    on both axes, with :math:`k` the kernel, a multiple of the stride :math:`s`; the padding is cut off.

    Args:
        x: (N, C, height, width).
        weight: (C, out, *kernel).
        stride: that of both axes.
        padding: that of both axes.

    Returns:
        (N, out, s (height - 1) + k - 2 padding, and so the width).
    """
    count, _, height, width = x.shape
    out, taps = weight.shape[1], [kernel // step for kernel, step in zip(weight.shape[2:], stride)]
    matrix = weight.flatten(1).t()[..., None, None]
    given = aten.convolution(x, matrix, None, [1, 1], [0, 0], [1, 1], False, [0, 0], 1)
    given = given.view(count, out, taps[0], stride[0], taps[1], stride[1], height, width)
    given = pad(given, [taps[1] - 1, taps[1] - 1, taps[0] - 1, taps[0] - 1])
    sides = height + taps[0] - 1, width + taps[1] - 1
    summed: Any = sum(
        given[:, :, row, :, column]
        .narrow(-2, taps[0] - 1 - row, sides[0])
        .narrow(-1, taps[1] - 1 - column, sides[1])
        for row, column in product(*map(range, taps))
    )
    image = summed.permute(0, 1, 4, 2, 5, 3).reshape(count, out, sides[0] * stride[0], sides[1] * stride[1])
    for axis, cut in enumerate(padding, start=2):
        image = image.narrow(axis, cut, image.shape[axis] - 2 * cut)
    return image.contiguous()


def _strides(x: Tensor) -> tuple[int, ...]:
    """Those of x with its channels last."""
    _, channels, height, width = x.shape
    return channels * height * width, 1, width * channels, channels


def _is_channels_last(x: Tensor) -> bool:
    # not is_contiguous, which holds in both orders for one channel and for one pixel
    return x.dim() == 4 and x.stride() == _strides(x)


def _plain(x: Tensor) -> Tensor:
    """x with its channels first and the strides that a convolution as written gives, of one pixel too.

    By its strides a later operator chooses the order of what it makes.
    """
    return x.contiguous().view(-1).view(x.shape)
