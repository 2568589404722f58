"""Nets in half precision, log-probabilities in float32."""

from __future__ import annotations

import copy
from typing import Any, NamedTuple

import pyro
import pyro.distributions as dist
import pytest
import torch
from pyro import poutine
from torch import Tensor, nn

from ppl_vae import nets
from ppl_vae.train.precision import mixed_precision
from tests.nets.test_contract import DEVICES


class Likelihood(nn.Module):
    def forward(self, raw: Tensor) -> dist.Distribution:
        return dist.Bernoulli(logits=raw).to_event(1)


class Model(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.decoder = nets.MLPDecoder(2, (6,), hidden=(8,))
        self.likelihood = Likelihood()

    def forward(self, x: Tensor) -> None:
        with pyro.plate("data", len(x), dim=-1):
            z = pyro.sample("z", dist.Normal(x.new_zeros(2), 1).to_event(1))
            pyro.sample("x", self.likelihood(self.decoder(z)), obs=x)


class Guide(nn.Module):
    """Uses the parts of its encoder one by one, as a guide with a head of its own does."""

    def __init__(self) -> None:
        super().__init__()
        self.encoder = nets.MLPEncoder((6,), 2, hidden=(8,))
        self.heads = nn.ModuleList([nn.Linear(8, 2)])

    def forward(self, x: Tensor) -> None:
        features = self.encoder.trunk(x)
        loc = self.heads[0](features)
        _, scale = self.encoder.head(features)
        assert features.dtype == loc.dtype == scale.dtype == torch.float32
        with pyro.plate("data", len(x), dim=-1):
            pyro.sample("z", dist.Normal(loc, scale).to_event(1))


def products(module: nn.Module) -> list[torch.dtype]:
    """A list that the dtypes of all linear layers' outputs go to, as the layers compute them."""
    seen: list[torch.dtype] = []

    def record(layer: nn.Module, args: Any, out: Tensor) -> None:
        seen.append(out.dtype)

    for layer in module.modules():
        if isinstance(layer, nn.Linear):
            layer.register_forward_hook(record)
    return seen


def hooks(*programs: nn.Module) -> int:
    return sum(
        len(module._forward_hooks) + len(module._forward_pre_hooks)
        for program in programs
        for module in program.modules()
    )


def is_autocast(device: str) -> bool:
    return torch.is_autocast_enabled(device)


@pytest.mark.parametrize("device", DEVICES)
def test_nets_run_in_half_precision_and_log_probabilities_in_float32(device) -> None:
    model, guide = Model().to(device), Guide().to(device)
    x = torch.ones(3, 6, device=device)
    in_model, in_guide = products(model), products(guide)
    with mixed_precision(model, guide, dtype=torch.bfloat16):
        guide_trace = poutine.trace(guide).get_trace(x)
        model_trace = poutine.trace(poutine.replay(model, guide_trace)).get_trace(x)
        for trace in (guide_trace, model_trace):
            trace.compute_log_prob()
        sites = {**guide_trace.nodes, **model_trace.nodes}
        for name in ("z", "x"):
            assert sites[name]["value"].dtype == torch.float32
            assert sites[name]["log_prob"].dtype == torch.float32
        assert model_trace.nodes["x"]["fn"].base_dist.logits.dtype == torch.float32
        model_trace.nodes["x"]["log_prob"].sum().backward()
    assert in_model == [torch.bfloat16] * 2
    assert in_guide == [torch.bfloat16] * 3
    gradients = [p.grad for p in model.parameters()]
    assert all(gradient.dtype == torch.float32 for gradient in gradients)
    assert all(gradient.isfinite().all() and gradient.abs().max() > 0 for gradient in gradients)


@pytest.mark.parametrize("device", DEVICES)
def test_convolutions_too(device) -> None:
    program = nn.ModuleDict({"decoder": nets.ConvDecoder(2, (1, 8, 8), channels_last=True)}).to(device)
    z = torch.randn(2, 3, 2, device=device)
    exact = program["decoder"](z)
    with mixed_precision(program, dtype=torch.bfloat16):
        rough = program["decoder"](z)
    assert rough.dtype == torch.float32
    assert (rough != exact).any()
    torch.testing.assert_close(rough, exact, atol=0.05, rtol=0.05)


def test_outside_everything_is_as_before() -> None:
    model, guide = Model(), Guide()
    x = torch.rand(3, 6)
    before = model.decoder(x[:, :2])
    with mixed_precision(model, guide, dtype=torch.bfloat16):
        assert hooks(model, guide) > 0
        assert not is_autocast("cpu")
        assert (x @ x.T).dtype == torch.float32
    assert hooks(model, guide) == 0
    torch.testing.assert_close(model.decoder(x[:, :2]), before, rtol=0, atol=0)


def test_none_does_nothing() -> None:
    model = Model()
    with mixed_precision(model, dtype=None):
        assert hooks(model) == 0


@pytest.mark.parametrize("dtype", [torch.float32, torch.int8, "bf16"])
def test_other_dtypes_are_refused(dtype) -> None:
    with (
        pytest.raises(ValueError, match=r"torch\.bfloat16, torch\.float16 or None, got"),
        mixed_precision(Model(), dtype=dtype),
    ):
        pass


def test_float64_stays_float64() -> None:
    model = Model().double()
    with mixed_precision(model, dtype=torch.bfloat16):
        assert model.decoder(torch.zeros(3, 2, dtype=torch.float64)).dtype == torch.float64


class Pair(NamedTuple):
    first: Tensor
    second: Tensor


class Returns(nn.Module):
    """Hands the outputs of a linear layer back in some wrapping."""

    def __init__(self, wrap: Any) -> None:
        super().__init__()
        self.linear = nn.Linear(2, 2)
        self.wrap = wrap

    def forward(self, x: Tensor) -> Any:
        return self.wrap(self.linear(x))


def test_results_keep_their_wrapping() -> None:
    x = torch.zeros(2)
    program = nn.ModuleDict(
        {
            "pair": Returns(lambda h: Pair(h, h)),
            "nested": Returns(lambda h: (h, [h, "name"])),
            "distribution": Returns(lambda h: dist.Delta(h)),
            "index": Returns(lambda h: h.argmax()),
        }
    )
    with mixed_precision(program, dtype=torch.bfloat16):
        pair = program["pair"](x)
        assert isinstance(pair, Pair)
        assert pair.first.dtype == pair.second.dtype == torch.float32
        first, (second, name) = program["nested"](x)
        assert first.dtype == second.dtype == torch.float32
        assert name == "name"
        assert program["distribution"](x).v.dtype == torch.bfloat16
        assert program["index"](x).dtype == torch.int64


def test_a_net_inside_a_net_stays_in_half_precision() -> None:
    model = Model()
    inner = products(model)
    with mixed_precision(model, dtype=torch.bfloat16):
        seen = []
        handle = model.decoder.mlp.register_forward_hook(lambda net, args, out: seen.append(out.dtype))
        assert model.decoder(torch.zeros(2)).dtype == torch.float32
        handle.remove()
    assert seen == [torch.bfloat16]
    assert inner == [torch.bfloat16] * 2


def test_a_net_that_two_programs_share_is_hooked_once() -> None:
    model, guide = Model(), Guide()
    guide.decoder = model.decoder
    with mixed_precision(model, guide, dtype=torch.bfloat16):
        assert len(model.decoder._forward_hooks) == 1
        assert model.decoder(torch.zeros(2)).dtype == torch.float32


def test_a_program_inside_a_program_is_not_a_net() -> None:
    model, guide = Model(), Guide()
    guide.model = model
    with mixed_precision(model, guide, dtype=torch.bfloat16):
        assert not model._forward_hooks
        assert model.decoder._forward_hooks


@pytest.mark.parametrize("error", [ValueError, KeyboardInterrupt])
def test_after_an_exception_in_a_net_nothing_is_left(error) -> None:
    def fail(h: Tensor) -> Any:
        raise error("stop")

    program = nn.ModuleDict({"good": nn.Linear(2, 2), "bad": nn.Sequential(Returns(fail))})
    with pytest.raises(error, match="stop"), mixed_precision(program, dtype=torch.bfloat16):
        program["bad"](torch.zeros(2))
    assert hooks(program) == 0
    assert not is_autocast("cpu")


def test_an_exception_caught_inside_closes_autocast() -> None:
    program = nn.ModuleDict({"good": nn.Linear(2, 2), "bad": nn.Linear(3, 2)})
    with mixed_precision(program, dtype=torch.bfloat16):
        with pytest.raises(RuntimeError, match="shapes"):
            program["bad"](torch.zeros(2))
        assert not is_autocast("cpu")
        assert program["good"](torch.zeros(2)).dtype == torch.float32


def test_a_copy_made_inside_is_an_ordinary_net_outside() -> None:
    model = Model()
    z = torch.randn(3, 2)
    with mixed_precision(model, dtype=torch.bfloat16):
        twin = copy.deepcopy(model)
    torch.testing.assert_close(twin.decoder(z), model.decoder(z), rtol=0, atol=0)
