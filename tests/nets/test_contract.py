"""The contract of a net, over every net: leading dims, gradients, the constructor convention, devices."""

from __future__ import annotations

import copy
import inspect
import math
from collections.abc import Callable

import pytest
import torch
from torch import nn

from ppl_vae import nets

LATENT_DIM = 3

DEVICES = [
    "cpu",
    pytest.param(
        "cuda",
        marks=[
            pytest.mark.cuda,
            pytest.mark.skipif(not torch.cuda.is_available(), reason="needs an NVIDIA GPU"),
        ],
    ),
]


def trunk() -> nn.Module:
    return nn.Sequential(nn.Flatten(start_dim=-3), nn.Linear(64, 7))


# name -> (build the net, event shape of its data)
ENCODERS: dict[str, tuple[Callable[[], nn.Module], tuple[int, ...]]] = {
    "any trunk": (lambda: nets.Encoder(trunk(), 7, LATENT_DIM), (1, 8, 8)),
    "mlp": (lambda: nets.MLPEncoder((1, 8, 8), LATENT_DIM, hidden=(9, 8)), (1, 8, 8)),
    "mlp, vectors": (lambda: nets.MLPEncoder((5,), LATENT_DIM, hidden=(8,)), (5,)),
    "linear": (lambda: nets.MLPEncoder((2, 4, 3), LATENT_DIM, hidden=()), (2, 4, 3)),
    "mlp, gated": (lambda: nets.MLPEncoder((5,), LATENT_DIM, (8,), "gated"), (5,)),
    "columns": (lambda: nets.ColumnEncoder((1, 3, 2, 0), LATENT_DIM, (8,), counts=(3,)), (4,)),
    "conv 8": (lambda: nets.ConvEncoder((1, 8, 8), LATENT_DIM, 4, 8), (1, 8, 8)),
    "conv 28": (lambda: nets.ConvEncoder((1, 28, 28), LATENT_DIM, 4, 8), (1, 28, 28)),
    "conv 32 rgb": (lambda: nets.ConvEncoder((3, 32, 32), LATENT_DIM, 4, 8, "gated"), (3, 32, 32)),
    "conv 64, channels last": (
        lambda: nets.ConvEncoder((3, 64, 64), LATENT_DIM, 4, 8, channels_last=True),
        (3, 64, 64),
    ),
    "residual 8": (lambda: nets.ResidualEncoder((1, 8, 8), LATENT_DIM, 4, 1, 8), (1, 8, 8)),
    "residual 28": (lambda: nets.ResidualEncoder((1, 28, 28), LATENT_DIM, 4, 2, 8), (1, 28, 28)),
    "residual 64 rgb, channels last": (
        lambda: nets.ResidualEncoder((3, 64, 64), LATENT_DIM, 4, 1, 8, "gated", channels_last=True),
        (3, 64, 64),
    ),
}
DECODERS: dict[str, tuple[Callable[[], nn.Module], tuple[int, ...]]] = {
    "mlp": (lambda: nets.MLPDecoder(LATENT_DIM, (1, 8, 8), hidden=(9, 8)), (1, 8, 8)),
    "mlp, vectors": (lambda: nets.MLPDecoder(LATENT_DIM, (5,), hidden=(8,)), (5,)),
    "linear": (lambda: nets.MLPDecoder(LATENT_DIM, (2, 4, 3), hidden=()), (2, 4, 3)),
    "mlp, gated": (lambda: nets.MLPDecoder(LATENT_DIM, (5,), (8,), "gated"), (5,)),
    "conv 8": (lambda: nets.ConvDecoder(LATENT_DIM, (1, 8, 8), 4, 8), (1, 8, 8)),
    "conv 28": (lambda: nets.ConvDecoder(LATENT_DIM, (2, 28, 28), 4, 8), (2, 28, 28)),
    "conv 32 rgb": (lambda: nets.ConvDecoder(LATENT_DIM, (3, 32, 32), 4, 8, "gated"), (3, 32, 32)),
    "conv 64, channels last": (
        lambda: nets.ConvDecoder(LATENT_DIM, (3, 64, 64), 4, 8, channels_last=True),
        (3, 64, 64),
    ),
    "residual 8": (lambda: nets.ResidualDecoder(LATENT_DIM, (1, 8, 8), 4, 1, 8), (1, 8, 8)),
    "residual 28": (lambda: nets.ResidualDecoder(LATENT_DIM, (1, 28, 28), 4, 2, 8), (1, 28, 28)),
    "residual 64 rgb, channels last": (
        lambda: nets.ResidualDecoder(LATENT_DIM, (3, 64, 64), 4, 1, 8, "gated", channels_last=True),
        (3, 64, 64),
    ),
}
# name -> (build, event shape in, event shapes out)
NETS = {
    **{f"encoder: {k}": (f, shape, [(LATENT_DIM,)] * 2) for k, (f, shape) in ENCODERS.items()},
    **{f"decoder: {k}": (f, (LATENT_DIM,), [shape]) for k, (f, shape) in DECODERS.items()},
    "block: MLP": (lambda: nets.MLP(5, (8,), 4, "relu"), (5,), [(4,)]),
    "block: ColumnFeatures": (lambda: nets.ColumnFeatures((1, 3), counts=(0,)), (2,), [(6,)]),
    "block: LocScale": (lambda: nets.LocScale(5, 4), (5,), [(4,), (4,)]),
}


@pytest.fixture(params=NETS, ids=list(NETS))
def case(request: pytest.FixtureRequest):
    return NETS[request.param]


def outputs(net: nn.Module, x: torch.Tensor) -> list[torch.Tensor]:
    out = net(x)
    return [out] if isinstance(out, torch.Tensor) else list(out)


@pytest.mark.parametrize("device", DEVICES)
def test_any_leading_dims_give_what_a_loop_over_data_gives(case, device) -> None:
    build, event, wanted = case
    net = build().double().to(device)
    x = torch.randn(2, 3, *event, dtype=torch.float64, device=device)
    nested = outputs(net, x)
    assert [out.shape for out in nested] == [(2, 3, *shape) for shape in wanted]
    assert all(out.device.type == device for out in nested)
    for k in range(2):
        batch = outputs(net, x[k])
        assert [out.shape for out in batch] == [(3, *shape) for shape in wanted]
        for many, few in zip(nested, batch, strict=True):
            torch.testing.assert_close(many[k], few)
    single = outputs(net, x[1, 2])
    assert [out.shape for out in single] == [torch.Size(shape) for shape in wanted]
    for many, one in zip(nested, single, strict=True):
        torch.testing.assert_close(many[1, 2], one)


def test_accepts_expanded_and_deeper_batches(case) -> None:
    build, event, _ = case
    net = build().double()
    x = torch.randn(3, *event, dtype=torch.float64)
    expanded = outputs(net, x.expand(2, 1, 3, *event))
    for many, few in zip(expanded, outputs(net, x), strict=True):
        torch.testing.assert_close(many, few.expand_as(many))


def test_accepts_an_empty_batch(case) -> None:
    build, event, wanted = case
    found = [out.shape for out in outputs(build(), torch.zeros(2, 0, *event))]
    assert found == [(2, 0, *shape) for shape in wanted]


@pytest.mark.parametrize("device", DEVICES)
def test_gradients_reach_every_parameter_and_the_input(case, device) -> None:
    build, event, _ = case
    net = build().to(device)
    x = torch.randn(16, *event, device=device, requires_grad=True)
    torch.stack([(out * torch.randn_like(out)).sum() for out in outputs(net, x)]).sum().backward()
    for name, parameter in [*net.named_parameters(), ("input", x)]:
        assert parameter.grad is not None, name
        assert parameter.grad.isfinite().all(), name
        assert parameter.grad.abs().max() > 0, name


def test_every_constructor_argument_is_an_attribute_and_rebuilds_the_net(case) -> None:
    build, event, _ = case
    net = build()
    parameters = inspect.signature(type(net).__init__).parameters
    names = [name for name in parameters if name != "self"]
    assert all(parameter.kind is inspect.Parameter.POSITIONAL_OR_KEYWORD for parameter in parameters.values())
    arguments = {name: getattr(net, name) for name in names}
    again = type(net)(**arguments)
    again.load_state_dict(net.state_dict())
    x = torch.randn(2, *event)
    for ours, theirs in zip(outputs(net, x), outputs(again, x), strict=True):
        torch.testing.assert_close(ours, theirs, rtol=0, atol=0)


def test_a_copy_is_independent_and_gives_the_same_values(case) -> None:
    build, event, _ = case
    net = build()
    twin = copy.deepcopy(net)
    x = torch.randn(2, *event)
    before = [out.detach().clone() for out in outputs(net, x)]
    with torch.no_grad():
        for parameter in net.parameters():
            parameter.add_(1)
    for ours, theirs in zip(before, outputs(twin, x), strict=True):
        torch.testing.assert_close(ours, theirs.detach(), rtol=0, atol=0)


def test_no_two_names_share_a_parameter(case) -> None:
    net = case[0]()
    pointers = [tensor.data_ptr() for tensor in net.state_dict().values()]
    assert len(pointers) == len(set(pointers))


# The shape that a user's trunk expects is the user's to check.
@pytest.mark.parametrize("name", [name for name in NETS if name != "encoder: any trunk"])
def test_a_wrong_input_shape_names_expected_and_got(name) -> None:
    build, event, _ = NETS[name]
    x = torch.zeros(2, *event[:-1], event[-1] + 1)
    with pytest.raises(ValueError, match="expect") as raised:
        build()(x)
    assert "(*batch, " + ", ".join(map(str, event)) + ")" in str(raised.value)
    assert str(tuple(x.shape)) in str(raised.value)


@pytest.mark.parametrize("name", DECODERS)
def test_the_output_bias_is_the_bias_of_the_last_layer(name) -> None:
    build, shape = DECODERS[name]
    net = build()
    z = torch.randn(4, LATENT_DIM)
    before = net(z)
    assert isinstance(net.output_bias, nn.Parameter)
    assert any(net.output_bias is parameter for parameter in net.parameters())
    assert net.output_bias.shape in [(shape[0],), (math.prod(shape),)]
    assert net.output_bias.abs().max() == 0
    with torch.no_grad():
        net.output_bias.add_(1.5)
    torch.testing.assert_close(net(z), before + 1.5)


@pytest.mark.parametrize("name", ENCODERS)
def test_an_encoder_is_its_head_on_its_trunk(name) -> None:
    build, event = ENCODERS[name]
    net = build()
    x = torch.randn(4, *event)
    features = net.trunk(x)
    assert features.shape == (4, net.num_features)
    assert isinstance(net, nets.Encoder)
    for ours, theirs in zip(net.head(features), net(x), strict=True):
        torch.testing.assert_close(ours, theirs)
    assert net.latent_dim == LATENT_DIM


@pytest.mark.parametrize("name", ENCODERS)
def test_the_scale_keeps_its_floor_and_cap_for_huge_inputs(name) -> None:
    build, event = ENCODERS[name]
    net = build()
    net.head.linear.weight.data.mul_(1e4)
    x = (1e4 * torch.randn(8, *event)).requires_grad_()
    loc, scale = net(x)
    assert scale.min() >= net.min_scale * (1 - 1e-6)
    assert scale.max() <= net.max_scale * (1 + 1e-6)
    (loc.sum() + scale.log().sum()).backward()
    for parameter in [x, *net.parameters()]:
        assert parameter.grad is not None
        assert not parameter.grad.isnan().any()


@pytest.mark.parametrize("device", DEVICES)
def test_an_autocast_net_still_gives_float32_scales(device) -> None:
    net = nets.MLPEncoder((64,), LATENT_DIM).to(device)
    with torch.autocast(device, dtype=torch.bfloat16):
        loc, scale = net(torch.randn(5, 64, device=device))
    assert loc.dtype == scale.dtype == torch.float32
