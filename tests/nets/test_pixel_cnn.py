"""The PixelCNN's arguments, its leading dims, where it starts, and its canvas; its order is tested with the
distribution.
"""

from __future__ import annotations

import inspect

import pytest
import torch

from ppl_vae import nets
from ppl_vae.nets.causal_conv import CausalConv
from tests.distributions.test_autoregressive import random_net

OPTIONS = {"shape": (3, 4, 6), "raw_channels": 6, "channels": 7, "dilations": (1, 3), "context_channels": 8}


def test_constructor_arguments_are_attributes():
    net = nets.PixelCNN(**OPTIONS)
    again = type(net)(**{name: getattr(net, name) for name in inspect.signature(type(net)).parameters})
    again.load_state_dict(net.state_dict())
    assert nets.PixelCNN((1, 4, 4), 1).context_channels is None


def test_a_new_one_adds_nothing_to_the_contexts_raw_output():
    context = torch.randn(5, 8, 4, 6)
    assert torch.equal(nets.PixelCNN(**OPTIONS)(torch.rand(5, 3, 4, 6), context), context[:, :6])


def test_any_leading_dims_and_gradients_for_every_parameter():
    net = random_net(**OPTIONS)
    x, context = torch.rand(5, 3, 4, 6), torch.randn(2, 5, 8, 4, 6, requires_grad=True)
    raw = net(x, context)
    for k in range(2):
        torch.testing.assert_close(raw[k], net(x, context[k]))
    torch.testing.assert_close(raw[1, 2], net(x[2], context[1, 2]))
    assert net(x[:0], context[:, :0]).shape == (2, 0, 6, 4, 6)
    (raw * torch.randn_like(raw)).sum().backward()
    for name, parameter in [*net.named_parameters(), ("context", context)]:
        assert parameter.grad is not None, name
        assert parameter.grad.abs().max() > 0, name


def test_the_canvas_gives_the_raw_output_of_the_finished_image(double):
    net = random_net(**OPTIONS).double()
    x, context = torch.rand(2, 3, 4, 6), torch.randn(2, 8, 4, 6)
    canvas, whole = net.canvas(context), net(x, context)
    for row in range(4):
        for column in range(6):
            for colour in range(3):
                here = canvas.raw(row, column)[:, colour::3, 0, 0]
                torch.testing.assert_close(here, whole[:, colour::3, row, column])
                shown = x[..., row, column].clone()
                shown[:, colour + 1 :] = 0
                canvas.put(row, column, shown)


def test_half_precision_context_is_widened():
    net = random_net((1, 4, 4), 1)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        raw = net(torch.rand(2, 1, 4, 4), torch.randn(2, 1, 4, 4))
    assert raw.dtype == torch.float32


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"shape": (4, 6)}, "shape must be a sequence of positive integers"),
        ({"raw_channels": 4}, "4 raw channels are not as many for each of 3 colours"),
        ({"channels": 2}, "3 colours need as many channels or more, got 2"),
        ({"context_channels": 5}, "context_channels must be 6 or more, got 5"),
        ({"kernel": 2}, "kernel must be odd, got 2"),
        ({"first_kernel": 0}, "first_kernel must be a positive integer"),
        ({"activation": "gated"}, "'gated' halves the channels"),
        ({"dilations": (0,)}, "dilations must be a sequence of positive integers"),
    ],
)
def test_what_makes_no_sense_is_refused(changed, message):
    with pytest.raises(ValueError, match=message):
        nets.PixelCNN(**{**OPTIONS, **changed})


def test_another_shape_is_refused():
    net = nets.PixelCNN(**OPTIONS)
    with pytest.raises(ValueError, match=r"expects input of shape \(\*batch, 3, 4, 6\), got \(3, 4, 5\)"):
        net(torch.rand(3, 4, 5), torch.rand(8, 4, 6))
    with pytest.raises(ValueError, match=r"expects input of shape \(\*batch, 8, 4, 6\), got \(6, 4, 6\)"):
        net.canvas(torch.rand(6, 4, 6))


def test_a_part_of_a_convolution_is_that_part_of_the_whole():
    conv = CausalConv(2, 3, above=1, left=2, right=1, dilation=2, shift=1)
    x = torch.randn(4, 2, 7, 8)
    part = conv.within(conv.padded(x), 2, 3, 4, 2)
    torch.testing.assert_close(part, conv(x)[..., 2:6, 3:5])
