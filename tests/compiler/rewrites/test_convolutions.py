"""Convolutions in a captured step: the same numbers and gradients, in other operators."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn
from torch.fx.experimental.proxy_tensor import make_fx
from torch.nn import functional

from ppl_vae.compiler.rewrites.convolutions import Convolutions, transposed_convolution

aten = torch.ops.aten


@pytest.mark.parametrize("out", [1, 3])
@pytest.mark.parametrize(
    ("kernel", "stride", "padding"), [(4, 2, 1), (2, 2, 0), (6, 2, 2), (3, 3, 0), (3, 1, 1)]
)
def test_transposed_convolution_is_torchs(out: int, kernel: int, stride: int, padding: int) -> None:
    x = torch.randn(2, 4, 5, 3, dtype=torch.float64)
    weight = torch.randn(4, out, kernel, kernel + 2 * stride, dtype=torch.float64)
    paddings = (padding, padding + 1)
    found = transposed_convolution(x, weight, (stride, stride), paddings)
    torch.testing.assert_close(found, functional.conv_transpose2d(x, weight, None, stride, paddings))


def layers(*, groups: int = 1, output_padding: int = 0) -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(1, 6, 4, 2, 1),
        nn.ReLU(),
        nn.Conv2d(6, 20, 3, 1, 1, groups=2, bias=False),
        nn.BatchNorm2d(20),
        nn.SiLU(),
        nn.ConvTranspose2d(20, 18, 4, 2, 1),
        nn.ReLU(inplace=True),
        nn.ConvTranspose2d(18, 3, 4, 2, 1, groups=groups, output_padding=output_padding),
    ).double()


def images_and_gradients(net: nn.Module, x: Tensor) -> list[Tensor]:
    x = x.detach().requires_grad_()
    image = net(x)
    assert image.is_contiguous()  # as eager torch's, so that a view of it means the same
    loss = (image.flatten(1).cumsum(1) ** 2).mean()
    return [image.detach(), *torch.autograd.grad(loss, [x, *net.parameters()])]


@pytest.mark.parametrize("options", [{}, {"groups": 3}, {"output_padding": 1}], ids=str)
def test_images_and_gradients_are_torchs(options: dict[str, int]) -> None:
    net, x = layers(**options), torch.randn(3, 1, 8, 8, dtype=torch.float64)
    table = Convolutions().operators()
    graph = make_fx(lambda x: images_and_gradients(net, x), decomposition_table=table)(x)
    other = torch.randn_like(x)
    for found, wanted in zip(graph(other), images_and_gradients(net, other), strict=True):
        torch.testing.assert_close(found, wanted)


def test_images_are_brought_into_order_once_and_biases_summed_apart() -> None:
    net, x = layers(), torch.randn(3, 1, 8, 8, dtype=torch.float64)
    table = Convolutions().operators()
    graph = make_fx(lambda x: images_and_gradients(net, x), decomposition_table=table)(x).graph
    backward = graph.find_nodes(op="call_function", target=aten.convolution_backward.default)
    assert len(backward) == 4
    read = {node.args[0] for node in graph.find_nodes(op="call_function", target=aten.convolution.default)}
    for node in backward:
        assert node.args[-1][2] is False
        assert node.args[1].meta["val"].stride()[1] == 1
    assert all(node.args[1] in read for node in backward)


class Gated(nn.Module):
    """Halves of an image, multiplied: pieces of one pixel, of which only their strides say the order."""

    def forward(self, x: Tensor) -> Tensor:
        one, other = x.chunk(2, 1)
        return one * other


@pytest.mark.parametrize("channels", [1, 5])
def test_images_of_one_pixel_keep_the_strides_that_what_follows_was_recorded_with(channels: int) -> None:
    net = nn.Sequential(nn.Conv2d(channels, 8, 3), Gated(), nn.Upsample(scale_factor=7), nn.Flatten())
    inputs = dict(net.named_parameters()), torch.randn(3, channels, 3, 3)
    recorded = make_fx(lambda values, x: torch.func.functional_call(net, values, x))(*inputs)
    table = Convolutions().operators()
    graph = make_fx(recorded, decomposition_table=table, tracing_mode="fake")(*inputs)
    torch.testing.assert_close(graph(*inputs), net(inputs[1]))
