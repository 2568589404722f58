"""Where training starts: weights as the field draws them, and an output bias from the data mean."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from ppl_vae.nets.contracts import Decoder, HasInitialBias, output_bias_of

# A rectifier halves the second moment of its input; Kaiming's factor 2 gives it back.
_RECTIFIERS = ("relu", "leaky_relu", "elu", "gelu", "silu")


def initialise(
    layer: nn.Linear | nn.Conv2d | nn.ConvTranspose2d,
    activation: str | None = None,
    parts: int = 1,
) -> None:
    r"""Draw the weights of a layer for the activation that follows it, and set its bias to zero.

    Weights are uniform in (-bound, bound). For tanh, gated layers and no activation (Glorot and Bengio,
    2010), and for the relu family (He et al., arXiv:1502.01852), the bounds are

    .. math:: \sqrt{\frac{6}{\mathrm{fan\_in} + \mathrm{fan\_out}}} \qquad \text{and} \qquad
        \sqrt{\frac{6}{\mathrm{fan\_in}}}

    fan_in is how many inputs reach one output and fan_out how many outputs one input reaches; with a
    k x k kernel and stride s these are C_in k^2 and C_out k^2 / s^2 for a convolution, C_in k^2 / s^2
    and C_out k^2 for a transposed one.

    Args:
        layer: the layer to initialise in place.
        activation: what follows: one of `ACTIVATIONS`, or None.
        parts: how many maps of equal width the layer holds side by side (2 for gated layers and for a
            location beside a scale); each is drawn as a layer of its own.

    >>> layer = torch.nn.Linear(100, 50)
    >>> initialise(layer, "tanh")
    >>> bool(layer.weight.abs().max() <= (6 / 150) ** 0.5), layer.bias.abs().max().item()
    (True, 0.0)
    """
    if isinstance(layer, nn.Linear):
        fan_in, fan_out = float(layer.in_features), float(layer.out_features)
    else:
        kernel, stride = math.prod(layer.kernel_size), math.prod(layer.stride)
        transposed = isinstance(layer, nn.ConvTranspose2d)
        fan_in = layer.in_channels * kernel / (stride if transposed else 1)
        fan_out = layer.out_channels * kernel / (1 if transposed else stride)
    fan = fan_in / 2 if activation in _RECTIFIERS else (fan_in + fan_out / parts) / 2
    bound = math.sqrt(3 / fan)
    nn.init.uniform_(layer.weight, -bound, bound)
    if layer.bias is not None:
        nn.init.zeros_(layer.bias)


def centre_output(decoder: Decoder, likelihood: HasInitialBias, x: Tensor) -> None:
    r"""Set the output bias of a decoder so that training starts from the mean of the data.

    .. math:: \mathrm{output\_bias} = \mathrm{initial\_bias}\Bigl(\frac1N \sum_n x_n\Bigr)

    A decoder with one bias per output (an MLP) gets it exactly. A convolutional decoder has one bias per
    channel: it gets the wanted raw bias averaged over the pixels of the channel.

    Args:
        decoder: a net with `output_bias`, the bias of its last layer. Changed in place.
        likelihood: has `initial_bias(mean)`, as every likelihood in `ppl_vae.likelihoods` does.
        x: data, `(N, *event)`, floating point, N > 0; NaN is missing and left out of the mean.

    Raises:
        TypeError: if the decoder has no `output_bias` or the likelihood no `initial_bias`.
        ValueError: if x is empty or not floating point, or if the wanted bias does not fit the decoder.
    """
    bias = output_bias_of(decoder)
    if bias is None:
        raise TypeError(
            f"centre_output: {type(decoder).__name__} has no output_bias: give it that attribute, "
            f"the bias of its last layer"
        )
    if not isinstance(likelihood, HasInitialBias):
        raise TypeError(
            f"centre_output: {type(likelihood).__name__} has no method initial_bias(mean): pass a likelihood"
        )
    if not x.is_floating_point() or len(x) == 0:
        raise ValueError(
            f"centre_output: x must be a floating-point tensor of at least one datum, got "
            f"{x.dtype} of shape {tuple(x.shape)}: pass the data as the model sees it"
        )
    with torch.no_grad():
        mean = x.nanmean(0) if bool(x.isnan().any()) else x.mean(0)
        wanted = likelihood.initial_bias(mean.to(bias.device)).to(bias.dtype)
        if wanted.numel() == bias.numel():
            bias.copy_(wanted.reshape(bias.shape))
        elif wanted.ndim > 1 and wanted.shape[0] == bias.numel():
            bias.copy_(wanted.flatten(1).mean(1))
        else:
            raise ValueError(
                f"centre_output: the likelihood's initial bias has shape {tuple(wanted.shape)} and the "
                f"decoder's output_bias {tuple(bias.shape)}: build the decoder with "
                f"shape=likelihood.raw_shape({tuple(x.shape[1:])})"
            )
