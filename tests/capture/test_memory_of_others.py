"""Memory that is not a program's own, or is given away: steps as Pyro's, no data of a caller's changed."""

from __future__ import annotations

import copy

import pyro
import pyro.distributions as dist
import pytest
import torch
from pyro.infer import SVI, Trace_ELBO
from torch import nn

import ppl_vae as pv
from ppl_vae.capture.capture_error import CaptureError
from tests.capture.helpers import needs_compiler


class Program(nn.Module):
    """A regression with a latent for each datum, which does something with memory besides."""

    def __init__(self, act, **buffers):
        super().__init__()
        self.act = (act,)
        self.net = nn.Linear(4, 3)
        for name, value in buffers.items():
            self.register_buffer(name, value)

    def forward(self, *args):
        pyro.module("program", self)
        x, more = self.act[0](self, *args)
        with pyro.plate("data", len(x), dim=-1):
            z = pyro.sample("z", dist.Normal(x.new_zeros(3), 1.0).to_event(1))
            out = self.net(x) + z + more
            pyro.sample("y", dist.Normal(out, 1.0).to_event(1), obs=x[:, :3].detach())


def guide(*args):
    loc = pyro.param("loc", lambda: torch.zeros(3))
    with pyro.plate("data", 6, dim=-1):
        pyro.sample("z", dist.Normal(loc, 0.5).to_event(1).expand([6]))


DATA = torch.randn(40, 4, generator=torch.Generator().manual_seed(1))


def run(
    kind,
    act,
    arguments,
    steps=7,
    between=lambda *_: None,
    optim=None,
    backend="graph",
    wrap=lambda program: program,
    **buffers,
):
    """Losses and parameters of some steps, and the data afterwards."""
    pyro.clear_param_store()
    torch.manual_seed(0)
    data = DATA.clone()
    program = Program(act, **copy.deepcopy(buffers))
    options = {"capture": True} if kind is pv.SVI else {}
    svi = kind(wrap(program), guide, optim or pyro.optim.Adam({"lr": 0.01}), Trace_ELBO(), **options)
    if kind is pv.SVI:
        svi._captured["step"].backend, svi._captured["step"].same_noise = backend, True
    losses = []
    for step in range(steps):
        between(step, program, svi)
        losses.append(svi.step(*arguments(step, data, program)))
    if kind is pv.SVI:
        svi.verify()
    state = [each.detach().clone() for each in (*program.state_dict().values(), pyro.param("loc"))]
    return losses, state, data


def assert_as_pyros(*args, **kwargs):
    make = kwargs.pop("optim", lambda: None)
    expected, found = (run(kind, *args, optim=make(), **kwargs) for kind in (SVI, pv.SVI))
    assert found[0] == pytest.approx(expected[0], rel=1e-5)
    for one, two in zip((*expected[1], expected[2]), (*found[1], found[2]), strict=True):
        torch.testing.assert_close(one, two, rtol=1e-4, atol=1e-5)
    return found


def rows(step, data, _):
    return (data[6 * (step % 6) :][:6],)


def test_a_batch_that_a_program_keeps_stays_the_callers():
    def keep(program, x):
        program.last = x
        return x, 0.0

    _, _, data = assert_as_pyros(keep, rows)
    assert torch.equal(data, DATA)


def test_a_state_that_a_program_replaces_goes_on():
    def average(program, x):
        program.state = 0.9 * program.state + 0.1 * x.detach().mean(0)[:3]
        return x, program.state

    assert_as_pyros(average, rows, state=torch.zeros(3))


@needs_compiler
@pytest.mark.parametrize("from_step", [0, 5])
def test_an_argument_may_be_a_buffer_or_a_part_of_it(from_step):
    def arguments(step, data, program):
        return (program.bank[2:8] if step >= from_step else data[:6],)

    def change(program, x):
        program.bank.mul_(0.9)
        return x.clone(), 0.0

    assert_as_pyros(change, arguments, bank=DATA[:10].clone(), backend="inductor")


def test_arguments_that_slide_over_one_another_are_right_or_refused():
    def change(program, x, y):
        x.mul_(0.5)
        return y.clone(), 0.0

    def apart(step, data, _):
        return data[:6], data[(3 if step < 4 else 20) :][:6]

    assert_as_pyros(change, apart)
    with pytest.raises(CaptureError, match="where arguments lie in shared memory keeps changing"):
        run(pv.SVI, change, lambda step, data, _: (data[step:][:6], data[step + 1 :][:6]), steps=25)


@pytest.mark.parametrize("way", ["other memory", "transposed", "half", "cut"])
def test_memory_that_is_exchanged_between_steps(way):
    def read(program, x):
        program.bank.add_(0.1)
        return x, program.bank[:2, :1].sum().float()

    def between(step, program, _):
        if step != 4:
            return
        new = {"other memory": torch.clone, "transposed": torch.t, "half": torch.Tensor.half}
        program.bank.data = new.get(way, lambda bank: bank[:2])(program.bank.data)

    assert_as_pyros(read, rows, between=between, bank=torch.ones(4, 4))


def test_a_layer_that_is_replaced_and_an_attribute_that_shadows_are_seen():
    def read(program, x):
        return x, program.part(x[:, :3]) * program.dump_patches

    def between(step, program, _):
        if step == 3:
            program.part = nn.Tanh()
        if step == 5:
            program.dump_patches = 0.5

    def built(program, x):
        if not hasattr(program, "part"):
            program.part = nn.ReLU()
        return read(program, x)

    assert_as_pyros(built, rows, between=between)


def test_what_a_batch_norm_learns_is_learnt_where_nobody_reads_what_it_gives():
    def norm(program, x):
        nn.functional.batch_norm(x.detach(), program.mean, program.variance, training=True)
        return x, 0.0

    assert_as_pyros(norm, rows, mean=torch.zeros(4), variance=torch.ones(4))


def test_layers_of_lstm_in_float32():
    def recur(program, x):
        if not hasattr(program, "lstm"):
            program.lstm = nn.LSTM(4, 3)
            pyro.module("program", program)
        return x, program.lstm(x[None])[0][0]

    assert_as_pyros(recur, rows, steps=4)


def test_clipping_that_changes_is_seen():
    options = {"clip_norm": 10.0}

    def between(step, *_):
        options["clip_norm"] = 10.0 if step < 3 else 0.01

    def optim():
        return pyro.optim.SGD({"lr": 0.01}, options)

    assert_as_pyros(lambda _, x: (x, 0.0), rows, between=between, optim=optim)


@pytest.mark.filterwarnings("ignore:.*was not registered in the param store")
def test_what_is_freed_midway_is_trained():
    def between(step, program, _):
        program.net.bias.requires_grad_(step >= 3)

    assert_as_pyros(lambda _, x: (x, 0.0), rows, between=between, steps=9)


def test_a_program_may_ask_for_the_gradient_of_its_argument():
    def score(program, x):
        x.requires_grad_()
        (gradient,) = torch.autograd.grad(program.net(x).tanh().sum(), x, create_graph=True)
        return x, gradient[:, :3]

    assert_as_pyros(score, lambda step, data, _: (data[:6].clone(),))


@pytest.mark.parametrize("way", ["a slice", "the data", "dlpack"])
def test_values_that_are_read_by_another_view_are_looked_at(way):
    def read(program, x):
        kept = torch.zeros(3)
        if way == "dlpack":
            return x, float(torch.from_dlpack(x.detach()).max())
        (kept if way == "a slice" else kept.data)[0] = x.max()
        return x, float(kept.max())

    with pytest.raises(CaptureError, match="looks at the values"):
        run(pv.SVI, read, rows, steps=4)


def test_modules_of_a_program_that_is_a_function_are_seen():
    dropout = nn.Dropout(0.5)

    def drop(program, x):
        pyro.module("dropout", dropout)
        return dropout(x), 0.0

    def between(step, *_):
        dropout.train(step != 5)
        dropout.p = 0.1 if step == 3 else 0.5

    assert_as_pyros(drop, rows, between=between, wrap=lambda program: lambda *args: program(*args))
