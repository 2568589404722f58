"""pv.SVI takes the place of pyro.infer.SVI: the same losses, parameters, states and habits."""

from __future__ import annotations

import functools
import random
import warnings

import pyro
import pyro.distributions as dist
import pyro.optim
import pytest
import torch
from pyro.infer import (
    RenyiELBO,
    ReweightedWakeSleep,
    Trace_ELBO,
    TraceEnum_ELBO,
    TraceGraph_ELBO,
    TraceMeanField_ELBO,
    autoguide,
)
from pyro.nn import PyroModule, PyroSample
from pyro.ops.indexing import Vindex
from torch import nn
from torch.distributions import constraints

import ppl_vae as pv
from ppl_vae import estimators
from ppl_vae.capture import CaptureError
from ppl_vae.svi import svi as svi_module
from tests.capture.helpers import images, needs_compiler, vae
from tests.svi.examples import EXAMPLES

PyroSVI = pyro.infer.SVI
TOLERANCE = {torch.float32: 1e-5, torch.float64: 1e-10}


def captured(*arguments, capture=True, backend="graph", **options):
    """pv.SVI whose graphs are run without a compiler, with the random numbers of Pyro's."""
    svi = pv.SVI(*arguments, capture=capture, **options)
    for program in filter(None, svi._captured.values()):
        program.backend, program.same_noise = backend, True
    return svi


def seeded(run, *arguments, seed=11, **options):
    torch.manual_seed(seed)
    return run(*arguments, **options)


def assert_same(first, second):
    """Losses, and parameters by name, of two trainings."""
    losses, parameters, _ = first
    others, other_parameters, svi = second
    tolerance = TOLERANCE[next(iter(parameters.values())).dtype]
    assert torch.tensor(losses).std() > 0
    assert others == pytest.approx(losses, rel=tolerance)
    assert parameters.keys() == other_parameters.keys()
    for name, value in parameters.items():
        torch.testing.assert_close(other_parameters[name], value, rtol=tolerance, atol=tolerance)
    assert svi.graphs > 0


def run(SVI, programs, loss, optimizer, steps=6, **options):
    """A short training: (losses, parameters, svi)."""
    pyro.clear_param_store()
    torch.manual_seed(0)
    model, guide, arguments = programs()
    svi = SVI(model, guide, optimizer(), loss(), **options)
    torch.manual_seed(1)
    random.seed(1)
    losses = [svi.step(*arguments) for _ in range(steps)]
    return losses, {name: value.detach() for name, value in pyro.get_param_store().items()}, svi


def sgd():
    return pyro.optim.SGD({"lr": 1e-3})


def adam():
    return pyro.optim.Adam({"lr": 1e-2})


@pytest.mark.parametrize(
    ("name", "dtype"), [*[(name, torch.float64) for name in EXAMPLES], ("vae", torch.float32)], ids=str
)
def test_examples_run_with_one_import_changed(name, dtype):
    torch.set_default_dtype(dtype)
    trainings = []
    for SVI in (PyroSVI, captured):
        pyro.clear_param_store()
        trainings.append(seeded(EXAMPLES[name], SVI))
    assert_same(*trainings)


@needs_compiler
@pytest.mark.slow
@pytest.mark.parametrize(
    "name", [pytest.param(name, marks=[pytest.mark.grid] * (name != "vae")) for name in EXAMPLES]
)
def test_compiled_examples(name):
    torch.set_default_dtype(torch.float64)
    trainings = []
    for SVI in (PyroSVI, functools.partial(captured, backend="inductor")):
        pyro.clear_param_store()
        trainings.append(seeded(EXAMPLES[name], SVI))
    assert_same(*trainings)


@needs_compiler
def test_a_compiled_step():
    results = [run(SVI, line, Trace_ELBO, adam) for SVI in (PyroSVI, pv.SVI)]
    assert results[1][2].graphs == 0  # "auto" waits
    compiled = functools.partial(captured, backend="inductor")
    assert_same(results[0], run(compiled, line, Trace_ELBO, adam))


# ---- programs of many kinds


def line():
    """A function with parameters, one of them positive."""
    data = torch.randn(7)

    def model(x, flag=None):
        width = pyro.param("width", torch.tensor(2.0), constraint=constraints.positive)
        z = pyro.sample("z", dist.Normal(0.0, width))
        with pyro.plate("data", len(x)):
            pyro.sample("x", dist.Normal(z if flag is None else z + 1, 1.0), obs=x)

    def guide(x, flag=None):
        loc = pyro.param("loc", lambda: torch.randn(()))
        scale = pyro.param("scale", torch.tensor(0.5), constraint=constraints.positive)
        pyro.sample("z", dist.Normal(loc, scale))

    return model, guide, (data,)


def subsampling():
    data = torch.randn(30, 2)

    def model():
        with pyro.plate("data", 30, subsample_size=5) as index:
            z = pyro.sample("z", dist.Normal(torch.zeros(2), 1.0).to_event(1))
            pyro.sample("x", dist.Normal(z, 1.0).to_event(1), obs=data[index])

    def guide():
        with pyro.plate("data", 30, subsample_size=5):
            loc = pyro.param("loc", torch.zeros(30, 2), event_dim=1)
            pyro.sample("z", dist.Normal(loc, 1.0).to_event(1))

    return model, guide, ()


def coin():
    """A plate that is a loop."""

    def model(x):
        fairness = pyro.sample("fairness", dist.Beta(10.0, 10.0))
        for i in pyro.plate("tosses", 4):
            pyro.sample(f"toss_{i}", dist.Bernoulli(fairness), obs=x[i])

    def guide(x):
        a, b = (pyro.param(name, torch.tensor(15.0), constraint=constraints.positive) for name in "ab")
        pyro.sample("fairness", dist.Beta(a, b))

    return model, guide, (torch.tensor([1.0, 1.0, 0.0, 1.0]),)


def discrete():
    def guide(x):
        pyro.sample("z", dist.Bernoulli(pyro.param("p", torch.tensor(0.4))))

    def model(x):
        z = pyro.sample("z", dist.Bernoulli(0.3))
        with pyro.plate("data", len(x)):
            pyro.sample("x", dist.Normal(z, 1.0), obs=x)

    return model, guide, (torch.randn(7),)


def enumerated(in_guide=False, subsample_size=None):
    """Classes of which one cannot be; a third of the data are masked."""
    parallel = {"infer": {"enumerate": "parallel"}}

    def model(x):
        weights = pyro.param("weights", torch.ones(3) / 3, constraint=constraints.simplex)
        loc = pyro.sample("loc", dist.Normal(torch.zeros(3), 1.0).to_event(1))
        with pyro.plate("data", 9, subsample_size=subsample_size) as index:
            k = pyro.sample("k", dist.Categorical(weights), **({} if in_guide else parallel))
            with pyro.poutine.mask(mask=index < 6):
                pyro.sample("x", dist.Normal(Vindex(loc)[..., k], 1.0), obs=x[index])

    def guide(x):
        mean = pyro.param("mean", torch.linspace(-1.0, 1.0, 3))
        pyro.sample("loc", dist.Normal(mean, 0.1).to_event(1))
        logits = pyro.param("logits", torch.zeros(2))
        impossible = torch.cat([logits, logits.new_full((1,), -torch.inf)])
        with pyro.plate("data", 9, subsample_size=subsample_size):
            if in_guide:
                pyro.sample("k", dist.Categorical(logits=impossible), **parallel)

    return model, guide, (torch.linspace(-2.0, 2.0, 9),)


def chain():
    """Hidden states one after another, summed out."""

    def model(x):
        stay, state = pyro.param("stay", torch.tensor(0.8), constraint=constraints.unit_interval), 0
        for step in pyro.markov(range(len(x))):
            rows = torch.stack([torch.stack([stay, 1 - stay]), torch.stack([1 - stay, stay])])
            infer = {"enumerate": "parallel"}
            state = pyro.sample(f"state_{step}", dist.Categorical(rows[state]), infer=infer)
            pyro.sample(f"x_{step}", dist.Normal(2.0 * state, 1.0), obs=x[step])

    return model, lambda x: None, (torch.linspace(-1.0, 2.0, 5),)


def conditioned():
    def model():
        z = pyro.sample("z", dist.Normal(0.0, 1.0))
        pyro.sample("x", dist.Normal(z, 1.0))
        pyro.factor("penalty", -(z**2))

    def guide():
        pyro.sample("z", dist.Normal(pyro.param("loc", torch.tensor(0.3)), 0.5))

    return pyro.poutine.scale(pyro.condition(model, {"x": torch.tensor(2.0)}), 0.5), guide, ()


def bayesian(guide):
    class Regression(PyroModule):
        def __init__(self):
            super().__init__()
            self.linear = PyroModule[nn.Linear](2, 1)
            self.linear.weight = PyroSample(dist.Normal(0.0, 1.0).expand([1, 2]).to_event(2))

        def forward(self, x, y):
            loc = self.linear(x).squeeze(-1)
            with pyro.plate("data", len(x)):
                pyro.sample("y", dist.Normal(loc, 0.5), obs=y)

    model, x = Regression(), torch.randn(6, 2)
    return model, guide(model), (x, x.sum(-1))


def normal_and_dropout():
    net = nn.Sequential(nn.Linear(2, 6), nn.BatchNorm1d(6), nn.Dropout(0.3), nn.Linear(6, 3))

    def model(x):
        pyro.module("net", net)
        with pyro.plate("data", len(x)):
            z = pyro.sample("z", dist.Normal(torch.zeros(2), 1.0).to_event(1))
            pyro.sample("x", dist.Normal(net(z), 1.0).to_event(1), obs=x)

    def guide(x):
        with pyro.plate("data", len(x)):
            pyro.sample("z", dist.Normal(pyro.param("loc", torch.zeros(8, 2)), 1.0).to_event(1))

    return model, guide, (torch.randn(8, 3),)


def our_pair():
    return *vae(torch.float64).pyro(), (images(dtype=torch.float64),)


def simple_loss(model, guide, *arguments):
    guide_trace = pyro.poutine.trace(guide).get_trace(*arguments)
    model_trace = pyro.poutine.trace(pyro.poutine.replay(model, trace=guide_trace)).get_trace(*arguments)
    return guide_trace.log_prob_sum() - model_trace.log_prob_sum()


PROGRAMS = {
    "functions": line,
    "subsampling": subsampling,
    "sequential plate": coin,
    "discrete": discrete,
    "handlers": conditioned,
    "auto normal": lambda: bayesian(autoguide.AutoNormal),
    "auto low rank": lambda: bayesian(autoguide.AutoLowRankMultivariateNormal),
    "auto delta": lambda: bayesian(autoguide.AutoDelta),
    "batch norm": normal_and_dropout,
}
LOSSES = {
    "mean field": TraceMeanField_ELBO,
    "particles": lambda: Trace_ELBO(num_particles=3),
    "Renyi": lambda: RenyiELBO(alpha=0.5, num_particles=3),
    "Renyi vectorised": lambda: RenyiELBO(num_particles=3, vectorize_particles=True, max_plate_nesting=1),
    "graph": TraceGraph_ELBO,
    "function": lambda: simple_loss,
}
OPTIMIZERS = {
    "clipped adam": lambda: pyro.optim.ClippedAdam({"lr": 1e-2, "lrd": 0.9, "clip_norm": 0.5}),
    "clipped adam with decay": lambda: pyro.optim.ClippedAdam(
        {"lr": 1e-2, "weight_decay": 0.1, "centered_variance": True}
    ),
    "adamw": lambda: pyro.optim.AdamW(
        {"lr": 1e-2, "weight_decay": 0.1}, {"clip_norm": 1.0, "clip_value": 0.3}
    ),
    "adamax": lambda: pyro.optim.Adamax({"lr": 1e-2}),
    "rmsprop": lambda: pyro.optim.RMSprop({"lr": 1e-2, "centered": True, "momentum": 0.9}),
    "adagrad": lambda: pyro.optim.Adagrad({"lr": 1e-1, "lr_decay": 0.1}),
    "adagrad rmsprop": lambda: pyro.optim.AdagradRMSProp({"eta": 0.1}),
    "of each": lambda: pyro.optim.SGD(lambda name: {"lr": 1e-3 if name == "loc" else 1e-2, "momentum": 0.9}),
    "wrapped": lambda: pyro.optim.PyroOptim(torch.optim.Adam, {"lr": 1e-2, "betas": (0.8, 0.9)}),
}


@pytest.mark.usefixtures("double")
@pytest.mark.parametrize("name", PROGRAMS)
def test_programs_of_many_kinds(name):
    assert_same(*[run(SVI, PROGRAMS[name], Trace_ELBO, sgd) for SVI in (PyroSVI, captured)])


@pytest.mark.usefixtures("double")
@pytest.mark.parametrize("name", LOSSES)
def test_losses(name):
    assert_same(*[run(SVI, line, LOSSES[name], adam) for SVI in (PyroSVI, captured)])


@pytest.mark.usefixtures("double")
def test_discrete_draws_that_a_graph_follows():
    assert_same(*[run(SVI, discrete, TraceGraph_ELBO, adam) for SVI in (PyroSVI, captured)])


@pytest.mark.usefixtures("double")
@pytest.mark.parametrize("particles", [1, 3])
@pytest.mark.parametrize(
    "programs",
    [
        enumerated,
        chain,
        functools.partial(enumerated, in_guide=True),
        functools.partial(enumerated, subsample_size=4),
    ],
    ids=["model", "chain", "guide", "subsampling"],
)
def test_enumeration(programs, particles):
    vectorised = {"num_particles": particles, "vectorize_particles": particles > 1}
    loss = functools.partial(TraceEnum_ELBO, max_plate_nesting=1, **vectorised)
    assert_same(*[run(SVI, programs, loss, adam) for SVI in (PyroSVI, captured)])


@pytest.mark.usefixtures("double")
@pytest.mark.parametrize("name", OPTIMIZERS)
def test_optimizers(name):
    first, second = (run(SVI, line, Trace_ELBO, OPTIMIZERS[name]) for SVI in (PyroSVI, captured))
    assert_same(first, second)


@pytest.mark.usefixtures("double")
@pytest.mark.parametrize("estimator", [estimators.IWAE(2), estimators.DReG(2)], ids=["IWAE", "DReG"])
def test_our_estimators(estimator):
    first, second = (run(SVI, our_pair, lambda: estimator, sgd) for SVI in (PyroSVI, captured))
    assert second[0] == pytest.approx(first[0], rel=1e-10)
    for one, two in zip(first[1].values(), second[1].values(), strict=True):  # pairs have names of their own
        torch.testing.assert_close(one, two, rtol=1e-10, atol=1e-10)


def test_two_losses_come_back_as_two():
    first, second = (run(SVI, line, lambda: ReweightedWakeSleep(2), sgd)[0] for SVI in (PyroSVI, captured))
    assert len(second[-1]) == 2
    assert second[-1] == pytest.approx(first[-1], rel=1e-5)


# ---- habits


@pytest.fixture
def running():
    """A captured SVI that has made its graph, its optimizer and its batch."""
    _, _, svi = run(captured, line, Trace_ELBO, lambda: pyro.optim.Adam({"lr": 0.0}))
    assert svi.graphs == 1
    return svi, svi.optim, torch.linspace(-1, 1, 7)


def values():
    return {name: value.detach().clone() for name, value in pyro.get_param_store().named_parameters()}


def test_fresh_noise_and_another_batch(running):
    svi, _, x = running
    assert svi.step(x) != svi.step(x)
    assert seeded(svi.step, x) == seeded(svi.step, x)
    assert seeded(svi.step, x) != seeded(svi.step, x + 1)
    assert svi.graphs == 1


def test_a_scheduler_is_seen():
    arguments = {"optimizer": torch.optim.SGD, "optim_args": {"lr": 1e-2}, "gamma": 0.0}
    _, _, svi = run(captured, line, Trace_ELBO, lambda: pyro.optim.ExponentialLR(arguments))
    x, before = torch.linspace(-1, 1, 7), values()
    svi.step(x)
    assert all(not torch.equal(value, before[name]) for name, value in values().items())
    svi.optim.step()
    before = values()
    svi.step(x)
    assert all(torch.equal(value, before[name]) for name, value in values().items())
    assert svi.graphs == 1


def test_parameters_in_the_store_are_the_trained_ones(tmp_path):
    _, _, svi = run(captured, line, Trace_ELBO, adam)
    x, store = torch.linspace(-1, 1, 7), pyro.get_param_store()
    store.save(tmp_path / "parameters")
    svi.optim.save(tmp_path / "optimizer")
    after = [seeded(svi.step, x, seed=seed) for seed in range(4)]
    store.load(tmp_path / "parameters")
    svi.optim.load(tmp_path / "optimizer")
    assert [seeded(svi.step, x, seed=seed) for seed in range(4)] == pytest.approx(after, rel=1e-6)
    assert svi.graphs == 1  # the same, after one step of Pyro's own


def test_a_value_set_by_hand_is_seen(running):
    svi, _, x = running
    first = seeded(svi.step, x)
    pyro.get_param_store()["loc"] = torch.tensor(3.0)
    second = [seeded(svi.step, x) for _ in range(3)]
    assert first != second[0]
    assert second == pytest.approx([second[0]] * 3, rel=1e-6)
    assert svi.graphs == 1
    with torch.no_grad():
        pyro.get_param_store().get_param("loc").unconstrained().fill_(-3.0)
    assert seeded(svi.step, x) != second[0]


def test_optimizer_state_goes_on_in_pyros():
    states = []
    for SVI in (PyroSVI, captured):
        _, _, svi = run(SVI, line, Trace_ELBO, OPTIMIZERS["clipped adam"])
        states.append(svi.optim.get_state())
    for name, state in states[0].items():
        other = states[1][name]
        assert other["param_groups"] == state["param_groups"]  # the decayed learning rate
        assert other["state"][0]["step"] == state["state"][0]["step"] == 6
        torch.testing.assert_close(other["state"][0]["exp_avg"], state["state"][0]["exp_avg"])
    # Pyro's own SVI takes over
    assert isinstance(PyroSVI(svi.model, svi.guide, svi.optim, Trace_ELBO()).step(torch.ones(7)), float)
    assert svi.step(torch.ones(7)) > 0


def test_shapes_numbers_and_keywords_have_graphs_of_their_own(running):
    svi, _, x = running
    for arguments, options in [((x[:3],), {}), ((x,), {"flag": True}), ((x, 1.0), {}), ((x, None), {})]:
        expected = seeded(PyroSVI.evaluate_loss, svi, *arguments, **options)
        for _ in range(3):
            assert seeded(svi.evaluate_loss, *arguments, **options) == pytest.approx(expected, rel=1e-6)
    assert svi.graphs == 5
    assert svi.evaluate_loss(x, flag=True) != svi.evaluate_loss(x)


class Weighted(nn.Module):
    """A model with a number as attribute, and a tensor."""

    def __init__(self):
        super().__init__()
        self.beta, self.offset = 1.0, torch.tensor(0.0)

    def forward(self, x):
        with pyro.poutine.scale(scale=self.beta):
            z = pyro.sample("z", dist.Normal(self.offset, 1.0))
        with pyro.plate("data", len(x)):
            pyro.sample("x", dist.Normal(z, 1.0), obs=x)


def test_attributes_of_modules_and_tensors_in_place_are_seen_at_once():
    model, x = Weighted(), torch.linspace(-1, 1, 7)
    settings = {"scale": torch.tensor(0.5)}

    def guide(x):
        loc = pyro.param("loc", torch.tensor(0.2))
        pyro.sample("z", dist.Normal(loc, settings["scale"]))

    svi = captured(model, guide, sgd(), Trace_ELBO())

    def agrees():
        expected = seeded(PyroSVI.evaluate_loss, svi, x)
        assert [seeded(svi.evaluate_loss, x) for _ in range(2)] == pytest.approx([expected] * 2, rel=1e-6)
        return expected

    svi.step(x)
    found = [agrees()]
    assert svi.graphs == 1
    model.offset = torch.tensor(1.0)
    found.append(agrees())
    settings["scale"].fill_(2.0)
    found.append(agrees())
    assert svi.graphs == 1  # tensors go in
    model.beta = 0.25
    found.append(agrees())
    assert svi.graphs == 2
    assert len(set(found)) == 4


def test_parameters_that_only_some_steps_use():
    """As in semi-supervised training: each keeps its own count of steps."""

    def model(x, labelled):
        z = pyro.sample("z", dist.Normal(0.0, 1.0))
        if labelled:
            z = z * pyro.param("weight", torch.tensor(0.7))
        with pyro.plate("data", len(x)):
            pyro.sample("x", dist.Normal(z, 1.0), obs=x)

    results = []
    for SVI in (PyroSVI, captured):
        pyro.clear_param_store()
        _, guide, (x,) = seeded(line)
        svi = SVI(model, lambda x, labelled, guide=guide: guide(x), adam(), Trace_ELBO())
        torch.manual_seed(3)
        losses = [svi.step(x, number % 3 == 0) for number in range(12)]
        results.append((losses, values(), svi))
    assert_same(*results)


def test_step_tensor_gives_a_tensor(running):
    svi, _, x = running
    loss = seeded(svi.step_tensor, x)
    assert loss.shape == ()
    assert not loss.requires_grad
    assert loss.item() == seeded(svi.step, x)


def test_nan_is_warned_of_as_in_pyro(running):
    svi, _, x = running
    with pytest.warns(UserWarning, match="NaN: loss"):
        svi.step(x * float("nan"))


def test_what_comes_from_outside_is_seen(running):
    svi, _, x = running
    expected = seeded(svi.step, x)
    with pyro.poutine.scale(scale=2.0):
        assert seeded(svi.step, x) == pytest.approx(2 * expected, rel=1e-6)
    with torch.no_grad():
        assert seeded(svi.step, x) == pytest.approx(expected, rel=1e-6)


def test_auto_waits_until_a_shape_has_come_often(monkeypatch):
    monkeypatch.setattr(svi_module, "EAGER_STEPS", 5)
    _, _, svi = run(functools.partial(captured, capture="auto"), line, Trace_ELBO, adam)
    x = torch.linspace(-1, 1, 7)
    assert svi.graphs == 0
    svi.step(x)
    assert svi.graphs == 1
    svi.step(x[:3])
    assert svi.graphs == 1
    assert run(pv.SVI, line, Trace_ELBO, adam, capture=False)[2].graphs == 0


# ---- what cannot be captured


def branching():
    model, guide, arguments = line()

    def looks(x):
        if x.mean() > 100:
            raise AssertionError
        return model(x)

    return looks, guide, arguments


def von_mises():
    def model(x):
        angle = pyro.sample("angle", dist.VonMises(0.0, 1.0))
        with pyro.plate("data", len(x)):
            pyro.sample("x", dist.Normal(angle, 1.0), obs=x)

    def guide(x):
        pyro.sample("angle", dist.VonMises(pyro.param("loc", torch.tensor(0.1)), 2.0))

    return model, guide, (torch.zeros(3),)


def python_random():
    model, guide, arguments = line()
    return (lambda x: model(x + random.random())), guide, arguments


def seeding():
    model, guide, arguments = line()

    def seeded(x):
        torch.manual_seed(0)
        return model(x)

    return seeded, guide, arguments


class Counting(nn.Module):
    def __init__(self):
        super().__init__()
        self.calls, (self.program, _, _) = 0, line()

    def forward(self, x):
        self.calls += 1
        return self.program(x)


def counting():
    _, guide, arguments = line()
    return Counting(), guide, arguments


@pytest.mark.parametrize(
    ("programs", "loss", "reason"),
    [
        (
            branching,
            Trace_ELBO,
            r"test_svi\.py:\d+, `if x\.mean\(\) > 100:`: the program looks at the values",
        ),
        (von_mises, Trace_ELBO, r"site 'angle' \(VonMises\).*values of a tensor"),
        (counting, Trace_ELBO, r"changes Counting\.calls, no tensor, whenever it runs"),
        (python_random, Trace_ELBO, "draws from, or seeds, Python's random numbers"),
        (seeding, Trace_ELBO, "seeds torch's random numbers"),
    ],
    ids=["branch", "rejection", "counter", "random", "seed"],
)
def test_what_cannot_be_captured_runs_as_pyros(programs, loss, reason, monkeypatch):
    with pytest.raises(CaptureError, match=reason):
        run(captured, programs, loss, sgd)
    expected = run(PyroSVI, programs, loss, sgd)
    monkeypatch.setattr(svi_module, "EAGER_STEPS", 2)
    auto = functools.partial(captured, capture="auto")
    with pytest.warns(UserWarning, match=reason) as caught:
        losses, _, svi = run(auto, programs, loss, sgd)
    assert len(caught) == 1
    assert "SVI.step runs as Pyro's own" in str(caught[0].message)
    assert losses == pytest.approx(expected[0], rel=1e-6)
    assert svi.graphs == 0


def test_refusals_of_arguments_optimizers_and_hooks(running):
    svi, _, x = running
    with pytest.raises(CaptureError, match="argument 0 is a set"):
        svi.step({1, 2})
    with pytest.raises(CaptureError, match="argument 0 requires grad"):
        svi.step(x.clone().requires_grad_())
    pyro.get_param_store().get_param("loc").unconstrained().register_hook(lambda gradient: None)
    with pytest.raises(CaptureError, match="parameter 'loc' has a hook"):
        svi.step(x)
    with pytest.raises(ValueError, match="capture must be"):
        pv.SVI(*line()[:2], adam(), Trace_ELBO(), capture="yes")


def test_a_number_that_keeps_changing_should_be_a_tensor():
    _, _, svi = run(captured, line, Trace_ELBO, sgd, steps=1)
    x = torch.linspace(-1, 1, 7)

    def anneal():
        for number in range(100):
            svi.step(x, float(number))

    with pytest.raises(CaptureError, match=r"argument 1 keeps changing.*0-d tensor"):
        anneal()
    assert svi.graphs == 0


def test_a_refused_step_changes_nothing():
    model, guide, (x,) = branching()
    svi = captured(model, guide, adam(), Trace_ELBO())
    svi.step(x)
    before, state = values(), torch.get_rng_state()
    with pytest.raises(CaptureError):
        svi.step(x)
    assert all(torch.equal(value, before[name]) for name, value in values().items())
    assert torch.equal(torch.get_rng_state(), state)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert PyroSVI(model, guide, svi.optim, Trace_ELBO()).step(x) > 0


def test_a_program_without_parameters_runs_as_pyros():
    def model():
        z = pyro.sample("z", dist.Normal(0.0, 1.0))
        pyro.sample("x", dist.Normal(z, 1.0), obs=torch.tensor(1.0))

    def guide():
        pyro.sample("z", dist.Normal(0.0, 1.0))

    for capture in (False, True, "auto"):
        svi = captured(model, guide, adam(), Trace_ELBO(), capture=capture)
        losses = [seeded(svi.step) for _ in range(6)] + [seeded(svi.evaluate_loss) for _ in range(6)]
        assert losses == pytest.approx([seeded(PyroSVI.evaluate_loss, svi)] * 12, rel=1e-6)


def test_packed_sequences_are_pyros_or_refused_for_their_lengths(monkeypatch):
    rnn = nn.RNN(2, 3, batch_first=True)

    def model(packed):
        x, _ = nn.utils.rnn.pad_packed_sequence(packed, batch_first=True)
        with pyro.plate("data", len(x)):
            z = pyro.sample("z", dist.Normal(0.0, 1.0))
            pyro.sample("x", dist.Normal(z, 1.0), obs=x.mean((1, 2)))

    def guide(packed):
        pyro.module("rnn", rnn)
        _, last = rnn(packed)
        with pyro.plate("data", last.shape[1]):
            pyro.sample("z", dist.Normal(last[0].mean(-1), 1.0))

    def inside(program):
        def packs(x, lengths):
            return program(nn.utils.rnn.pack_padded_sequence(x, lengths, batch_first=True))

        return packs

    monkeypatch.setattr(svi_module, "EAGER_STEPS", 2)
    x, lengths = torch.randn(3, 4, 2), torch.tensor([4, 2, 1])
    packed = nn.utils.rnn.pack_padded_sequence(x, lengths, batch_first=True)
    weights = {name: value.clone() for name, value in rnn.state_dict().items()}
    for programs, arguments in (((model, guide), (packed,)), ((inside(model), inside(guide)), (x, lengths))):
        losses = []
        for SVI, options in ((PyroSVI, {}), (pv.SVI, {}), (pv.SVI, {"capture": "auto"})):
            pyro.clear_param_store()
            rnn.load_state_dict(weights)
            svi = SVI(*programs, adam(), Trace_ELBO(), **options)
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                losses.append(seeded(lambda svi=svi, given=arguments: [svi.step(*given) for _ in range(6)]))
        assert losses[0] == losses[1] == losses[2]
        svi = captured(*programs, adam(), Trace_ELBO())
        with pytest.raises(
            CaptureError, match=r"PackedSequence, whose lengths|looks at the values|depends on"
        ):
            [svi.step(*arguments) for _ in range(2)]
