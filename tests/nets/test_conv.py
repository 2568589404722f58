"""The convolutional nets, beyond the contract of every net."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from ppl_vae.nets import ConvDecoder, ConvEncoder, ResidualDecoder, ResidualEncoder
from ppl_vae.nets.activations import ACTIVATIONS
from ppl_vae.nets.images import upsample
from tests.nets.test_contract import DEVICES

IMAGES = [ConvEncoder, ResidualEncoder, ConvDecoder, ResidualDecoder]


def build(kind: type[nn.Module], shape=(3, 16, 16), **options) -> tuple[nn.Module, torch.Tensor]:
    """A small net and a batch of five inputs for it."""
    options = {"channels": 4, "num_features": 8, **options}
    if kind in (ConvEncoder, ResidualEncoder):
        return kind(shape, 3, **options), torch.randn(5, *shape)
    return kind(3, shape, **options), torch.randn(5, 3)


def first(out):
    return out if isinstance(out, torch.Tensor) else out[0]


@pytest.mark.parametrize("side", range(8, 65, 4))
def test_every_side_from_8_to_64_goes_there_and_back(side) -> None:
    encoder, x = build(ConvEncoder, (1, side, side), channels=2)
    decoder, _ = build(ConvDecoder, (1, side, side), channels=2)
    assert decoder(encoder(x)[0]).shape == x.shape


@pytest.mark.parametrize("activation", ACTIVATIONS)
@pytest.mark.parametrize("kind", IMAGES)
def test_every_activation_trains(kind, activation) -> None:
    net, x = build(kind, activation=activation)
    out = net(x)
    sum(part.square().sum() for part in (out if isinstance(out, tuple) else (out,))).backward()
    assert all(parameter.grad.abs().max() > 0 for parameter in net.parameters())


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("kind", IMAGES)
def test_channels_last_runs_there_and_gives_the_same(kind, device) -> None:
    plain, x = build(kind)
    other, _ = build(kind, channels_last=True)
    other.load_state_dict(plain.state_dict())
    plain, other, x = plain.double().to(device), other.double().to(device), x.double().to(device)
    formats = []

    def record(layer: nn.Module, args: tuple[torch.Tensor], out: torch.Tensor) -> None:
        for tensor in (args[0], out, layer.weight):
            formats.append(tensor.is_contiguous(memory_format=torch.channels_last))

    for layer in other.modules():
        if isinstance(layer, nn.Conv2d | nn.ConvTranspose2d):
            layer.register_forward_hook(record)
    torch.testing.assert_close(first(other(x)), first(plain(x)))
    assert len(formats) >= 6
    assert all(formats)

    first(plain(x)).square().sum().backward()
    first(other(x)).square().sum().backward()
    for ours, theirs in zip(other.parameters(), plain.parameters(), strict=True):
        if theirs.grad is not None:
            torch.testing.assert_close(ours.grad, theirs.grad)


@pytest.mark.parametrize("batch", [(), (5,), (2, 5)])
@pytest.mark.parametrize("kind", [ConvDecoder, ResidualDecoder])
def test_channels_last_decoders_unfold_any_batch(kind, batch) -> None:
    net, _ = build(kind, channels_last=True)
    assert net(torch.randn(*batch, 3)).shape == (*batch, 3, 16, 16)


def test_a_doubling_treats_every_inner_pixel_alike() -> None:
    # With equal weights, a kernel that the stride does not divide would show a checkerboard.
    (layer,) = upsample(1, 1)
    nn.init.ones_(layer.weight)
    inner = layer(torch.ones(1, 1, 6, 6))[..., 2:-2, 2:-2]
    torch.testing.assert_close(inner, torch.full_like(inner, 4.0))


@pytest.mark.parametrize("kind", IMAGES)
@pytest.mark.parametrize("shape", [(1, 30, 30), (1, 28, 32), (1, 4, 4), (784,)])
def test_other_images_are_refused(kind, shape) -> None:
    arguments = (shape, 3) if kind in (ConvEncoder, ResidualEncoder) else (3, shape)
    with pytest.raises(ValueError, match="divisible by 4, got shape"):
        kind(*arguments)


@pytest.mark.parametrize("kind", IMAGES)
@pytest.mark.parametrize("option", ["channels", "num_features"])
def test_bad_sizes_are_refused(kind, option) -> None:
    with pytest.raises(ValueError, match=f"{option} must be a positive integer, got 0"):
        build(kind, **{option: 0})
