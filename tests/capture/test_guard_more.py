"""What tensors and random numbers do past torch's operators is refused by name;
what has a graph of its own runs.
"""

from __future__ import annotations

import copy

import pyro
import pyro.distributions as dist
import pytest
import torch
from pyro.infer import Trace_ELBO
from torch import nn
from torch.utils.checkpoint import checkpoint

import ppl_vae as pv
from ppl_vae.capture import CaptureError, guard

DATA = torch.linspace(-1, 1, 8, dtype=torch.float64)


@pytest.fixture(autouse=True)
def _often_and_exact(monkeypatch):
    monkeypatch.setattr(guard, "SHARE", float("inf"))
    torch.set_default_dtype(torch.float64)
    yield
    torch.set_default_dtype(torch.float32)


def guide(x, *_):
    pyro.sample("z", dist.Normal(pyro.param("loc", torch.tensor(0.2)), 0.5))


def model_of(likelihood):
    """z ~ N(0, 1), and what a function of x, z and the other arguments gives as the location of x."""

    def model(x, *others):
        z = pyro.sample("z", dist.Normal(0.0, 1.0))
        loc = likelihood(x, z, *others)
        with pyro.plate("data", len(x)):
            pyro.sample("x", dist.Normal(loc, 1.0), obs=x)

    return model


def with_net(net):
    def likelihood(x, z):
        pyro.module("net", net)
        return net((x + z).unsqueeze(-1)).squeeze(-1)

    return model_of(likelihood)


def captured(model):
    svi = pv.SVI(model, guide, pyro.optim.Adam({"lr": 0.01}), Trace_ELBO(), capture=True)
    for program in svi._captured.values():
        program.backend, program.same_noise = "graph", True
    return svi


def assert_as_pyros(make, arguments=lambda step: (DATA,), steps=12, graphs=1):
    """Losses and parameters of `pyro.infer.SVI`; `make` gives a model and what happens before each step."""
    found = []
    for kind in (pyro.infer.SVI, captured):
        pyro.clear_param_store()
        torch.manual_seed(0)
        model, before = make()
        svi = (
            captured(model)
            if kind is captured
            else kind(model, guide, pyro.optim.Adam({"lr": 0.01}), Trace_ELBO())
        )
        torch.manual_seed(1)
        losses = []
        for step in range(steps):
            before(step)
            losses.append(svi.step(*arguments(step)))
        found.append((losses, copy.deepcopy(dict(pyro.get_param_store().items()))))
    svi.verify()
    assert svi.graphs == graphs
    assert found[1][0] == pytest.approx(found[0][0], rel=1e-9)
    for name, value in found[0][1].items():
        torch.testing.assert_close(found[1][1][name], value, rtol=1e-8, atol=1e-8)


class Average(nn.Module):
    """Takes off a running mean, which it keeps in one of several ways."""

    def __init__(self, keep):
        super().__init__()
        self.layer, self.keep = nn.Linear(1, 1), keep
        self.register_buffer("mean", torch.zeros(1))

    def forward(self, x):
        h = self.layer(x)
        self.keep(self.mean, h.detach().mean(0))
        return h - self.mean


def _data(mean, now):
    mean.data = 0.9 * mean + 0.1 * now


def _data_unread(mean, now):
    mean.data = now


def _set(mean, now):
    mean.set_(0.9 * mean + 0.1 * now)


@pytest.mark.parametrize("keep", [_data, _data_unread, _set], ids=lambda keep: keep.__name__.strip("_"))
@pytest.mark.parametrize("inside", [True, False], ids=["watched", "of a function"])
def test_memory_that_a_program_exchanges_is_refused_by_name(keep, inside):
    net = Average(keep)
    model = with_net(net)
    if inside:  # a module, whose tensors are known before the first run
        root = nn.Module()
        root.net, root.forward = net, model
        model = root
    svi = captured(model)
    svi.step(DATA)
    mean, value = net.mean, net.mean.clone()
    with pytest.raises(CaptureError, match=r"shape \(1,\).*\.data =, \.set_\(\).*use copy_\(\)"):
        svi.step(DATA)
    assert net.mean is mean
    if keep is not _data_unread or inside:
        assert torch.equal(mean, value)


def test_memory_that_is_exchanged_between_steps_is_seen():
    def make():
        scale = torch.tensor(1.0)
        return model_of(lambda x, z: z * scale), lambda step: setattr(
            scale, "data", torch.tensor(1.0 + step // 5)
        )

    assert_as_pyros(make)


def _checkpoint():
    net = nn.Sequential(nn.Linear(1, 4), nn.Dropout(0.5), nn.Linear(4, 1))
    return lambda x, z: checkpoint(net, (x + z)[:, None], use_reentrant=False)[:, 0]


def _seeded_inside():
    def likelihood(x, z):
        with torch.random.fork_rng():
            torch.manual_seed(5)
            noise = torch.randn(len(x))
        return z + noise

    return likelihood


@pytest.mark.parametrize("make", [_checkpoint, _seeded_inside], ids=["checkpoint", "fork_rng"])
def test_random_numbers_that_are_set_back_are_refused(make):
    svi = captured(model_of(make()))
    svi.step(DATA)
    with pytest.raises(CaptureError, match=r"seeds torch's random numbers or sets them back"):
        svi.step(DATA)
    assert svi.graphs == 0


def test_a_checkpoint_that_draws_nothing_runs():
    def make():
        net = nn.Sequential(nn.Linear(1, 4), nn.Tanh(), nn.Linear(4, 1))
        return model_of(
            lambda x, z: checkpoint(net, (x + z)[:, None], use_reentrant=False)[:, 0]
        ), lambda _: None

    assert_as_pyros(make)


def test_a_generator_of_ones_own_is_refused_by_name_and_stays_where_it_was():
    generator = torch.Generator().manual_seed(0)
    svi = captured(model_of(lambda x, z: z + torch.randn(len(x), generator=generator)))
    svi.step(DATA)
    state = generator.get_state()
    with pytest.raises(CaptureError, match=r"test_guard_more\.py:\d+.*torch\.Generator of its own"):
        svi.step(DATA)
    assert torch.equal(generator.get_state(), state)


@pytest.mark.filterwarnings("ignore:.*was not registered in the param store")
def test_a_parameter_frozen_for_a_while_has_graphs_of_its_own():
    def make():
        net = nn.Linear(1, 1)
        return with_net(net), lambda step: net.weight.requires_grad_(not 4 <= step < 8)

    assert_as_pyros(make, graphs=2)


def test_arguments_that_share_memory_have_graphs_of_their_own():
    def likelihood(x, z, other):
        other.add_(0.1)
        return z + x.clone()

    def arguments(step):
        x = DATA.clone()
        return (x, x) if step % 2 else (x, DATA.clone())

    assert_as_pyros(lambda: (model_of(likelihood), lambda _: None), arguments, graphs=2)


def test_numbers_that_python_holds_equal_are_told_apart():
    numbers = [0.0, -0.0, float("nan")]

    def likelihood(x, z, number):
        return z * (2.0 if repr(number) == "-0.0" else 1.0 if number == 0 else 3.0)

    def arguments(step):
        return DATA, numbers[step % 3] if step % 3 < 2 else float("nan")

    assert_as_pyros(lambda: (model_of(likelihood), lambda _: None), arguments, steps=54, graphs=3)


def test_a_conjugate_that_is_not_computed_is_refused():
    data = torch.randn(8, dtype=torch.complex128)
    svi = captured(model_of(lambda x, z, other: z + other.imag))
    svi.step(DATA, data)
    svi.step(DATA, data)
    with pytest.raises(CaptureError, match=r"resolve_conj"):
        svi.step(DATA, data.conj())
    svi.step(DATA, data.conj().resolve_conj())


def test_another_mode_from_outside_has_a_graph_of_its_own():
    net = nn.Sequential(nn.Linear(1, 4), nn.BatchNorm1d(4), nn.Linear(4, 1))
    svi = captured(with_net(net))
    for _ in range(3):
        svi.step(DATA)
    net.eval()
    for _ in range(3):
        svi.step(DATA)
    svi.verify()
    assert svi.graphs == 2


def test_another_program_from_outside_is_told_at_the_operation():
    net = nn.Sequential(nn.Linear(1, 4), nn.Linear(4, 1))
    chosen = {"act": torch.tanh}
    svi = captured(lambda x: with_net(net)(chosen["act"](x)))
    for _ in range(3):
        svi.step(DATA)
    chosen["act"] = torch.exp
    svi.step(DATA)
    with pytest.raises(CaptureError, match=r"the operation was aten\..* and is aten\.") as error:
        svi.verify()
    assert "of shape (0,)" not in str(error.value)


def test_no_table_of_pyros_in_a_message():
    net = nn.Sequential(nn.Linear(1, 4), nn.BatchNorm1d(4, momentum=None), nn.Linear(4, 1))
    svi = captured(with_net(net))
    svi.step(DATA)
    with pytest.raises(CaptureError, match="looks at the values") as error:
        svi.step(DATA)
    assert "Trace Shapes" not in str(error.value)
