"""What a graph cannot see: wherever Python keeps it, its change is refused, and never a wrong number."""

from __future__ import annotations

import collections
import functools
import itertools
import types

import numpy as np
import pyro
import pyro.distributions as dist
import pytest
import torch
from pyro.infer import Trace_ELBO

import ppl_vae as pv
from ppl_vae.capture import CaptureError, guard
from ppl_vae.capture.guard import Guard

DATA = torch.linspace(-1, 1, 7)
module = types.ModuleType("settings_of_a_test")


@pytest.fixture(autouse=True)
def _often(monkeypatch):
    """Comparisons that no share of the time keeps back."""
    monkeypatch.setattr(guard, "SHARE", float("inf"))


def guide(x):
    pyro.sample("z", dist.Normal(pyro.param("loc", torch.tensor(0.2)), 0.5))


def model_with(scale):
    """A model whose prior has the scale that a function gives now."""

    def model(x):
        z = pyro.sample("z", dist.Normal(0.0, scale()))
        with pyro.plate("data", len(x)):
            pyro.sample("x", dist.Normal(z, 1.0), obs=x)

    return model


def captured(model, lr=0.01, kind=pv.SVI, **options):
    svi = kind(model, guide, pyro.optim.Adam({"lr": lr}), Trace_ELBO(), **options)
    for program in getattr(svi, "_captured", {}).values():
        if program is not None:
            program.backend, program.same_noise = "graph", True
    return svi


class Config:
    sigma = 1.0


class Slotted:
    __slots__ = ("sigma",)


class Holder:
    """An object of one's own: its class is no module."""

    def __init__(self):
        self.sigma = 1.0


def _class_attribute():
    Config.sigma = 1.0
    return lambda: Config.sigma, lambda: setattr(Config, "sigma", 3.0)


def _module_attribute():
    module.sigma = 1.0
    return lambda: module.sigma, lambda: setattr(module, "sigma", 3.0)


def _tuple_in_a_dictionary():
    settings = {"prior": (0.0, 1.0)}
    return lambda: settings["prior"][1], lambda: settings.update(prior=(0.0, 3.0))


def _partial():
    parts = [functools.partial(lambda value: value, 1.0)]
    return lambda: parts[0](), lambda: parts.__setitem__(0, functools.partial(lambda value: value, 3.0))


def _deque():
    queue = collections.deque([1.0], maxlen=1)
    return lambda: queue[0], lambda: queue.append(3.0)


def _set():
    values = {1.0}
    return lambda: max(values), lambda: values.add(3.0)


def _slots():
    thing = Slotted()
    thing.sigma = 1.0
    return lambda: thing.sigma, lambda: setattr(thing, "sigma", 3.0)


def _array_in_place():
    array = np.ones(3)
    return lambda: float(array[1]), lambda: array.__setitem__(1, 3.0)


def _array_as_tensor():
    array = np.ones(())
    return lambda: torch.from_numpy(array.reshape(1).copy())[0].float(), lambda: array.fill(3.0)


def _long_list():
    values = [1.0] * 5000
    return lambda: values[4321], lambda: values.__setitem__(4321, 3.0)


def _long_dictionary():
    values = dict.fromkeys(range(5000), 1.0)
    return lambda: values[4321], lambda: values.__setitem__(4321, 3.0)


def _attribute_of_an_attribute():
    thing = Holder()
    thing.inner = Holder()
    return lambda: thing.inner.sigma, lambda: setattr(thing.inner, "sigma", 3.0)


def _nonlocal():
    sigma = 1.0

    def change():
        nonlocal sigma
        sigma = 3.0

    return lambda: sigma, change


def _replaced_tensor():
    settings = {"sigma": torch.tensor(1.0)}
    return lambda: settings["sigma"], lambda: settings.update(sigma=torch.tensor(3.0))


def _choice_of_code():
    settings = {"kind": "normal"}
    return (
        lambda: 1.0 if settings["kind"] == "normal" else torch.ones(()).mul(2).add(1),
        lambda: settings.update(kind="wide"),
    )


CHANGED_FROM_OUTSIDE = [
    _class_attribute,
    _module_attribute,
    _tuple_in_a_dictionary,
    _partial,
    _deque,
    _set,
    _slots,
    _array_in_place,
    _array_as_tensor,
    _long_list,
    _long_dictionary,
    _attribute_of_an_attribute,
    _nonlocal,
    _replaced_tensor,
    _choice_of_code,
]


@pytest.mark.parametrize("place", CHANGED_FROM_OUTSIDE, ids=lambda place: place.__name__.strip("_"))
def test_a_value_changed_from_outside_is_refused_and_undone(place):
    read, change = place()
    svi = captured(model_with(read), capture=True)
    for _ in range(3):
        svi.step(DATA)
    svi.verify()
    good = {name: value.detach().clone() for name, value in pyro.get_param_store().items()}
    state = svi.optim.get_state()["loc"]["state"][0]
    moment, count = state["exp_avg"].clone(), float(state["step"])
    change()

    def many():
        for _ in range(20):
            svi.step(DATA)

    with pytest.raises(
        CaptureError, match=r"test_guard\.py:\d+.*captured steps? 3.*went on|may have gone on"
    ) as error:
        many()
    assert "are back to where they were before" in str(error.value)
    for name, value in pyro.get_param_store().items():
        torch.testing.assert_close(value.detach(), good[name], rtol=0, atol=0)
    state = svi.optim.get_state()["loc"]["state"][0]
    assert torch.equal(state["exp_avg"], moment)
    assert float(state["step"]) == count
    # the next graph is made of the program as it is now
    assert [svi.step(DATA) for _ in range(4)]
    svi.verify()
    torch.manual_seed(3)
    now = svi.evaluate_loss(DATA), svi.evaluate_loss(DATA)
    torch.manual_seed(3)
    assert now == pytest.approx([pyro.infer.SVI.evaluate_loss(svi, DATA) for _ in range(2)], rel=1e-5)


def test_the_message_has_both_values_and_the_line():
    read, change = _class_attribute()
    svi = captured(model_with(read), capture=True)
    for _ in range(3):
        svi.step(DATA)
    change()
    svi.step(DATA)  # the third captured one: the comparisons are after the first, the second and the fourth
    with pytest.raises(CaptureError, match=r"`z = pyro\.sample.*was .*1\.0.* and is .*3\.0"):
        svi.verify()


def _counter():
    state = {"count": 0}

    def count():
        state["count"] += 1
        return min(1.0, 0.01 * state["count"])

    return count


def _iterator():
    steps = itertools.count(1)
    return lambda: float(next(steps))


def _list_iterator():
    values = iter([float(number) for number in range(1, 400)])
    return lambda: next(values)


def _popped():
    values = collections.deque(np.linspace(1, 2, 400))
    return lambda: float(values.popleft())


def _generator():
    generator = np.random.default_rng(0)
    return lambda: float(generator.uniform(1, 2))


def _generator_as_tensor():
    generator = np.random.default_rng(0)
    return lambda: torch.as_tensor(generator.uniform(1, 2, 3))[0].float()


@pytest.mark.parametrize(
    "make",
    [_counter, _iterator, _list_iterator, _popped, _generator, _generator_as_tensor],
    ids=lambda make: make.__name__.strip("_"),
)
def test_what_changes_with_every_run_is_refused_at_once(make):
    svi = captured(model_with(make()), capture=True)
    svi.step(DATA)
    with pytest.raises(CaptureError, match=r"test_guard\.py:\d+.*in two runs one after the other"):
        svi.step(DATA)
    assert svi.graphs == 0


def test_a_minibatch_of_numpys_indices_is_refused():
    generator, data = np.random.default_rng(0), torch.randn(50)

    def model():
        z = pyro.sample("z", dist.Normal(0.0, 1.0))
        index = torch.as_tensor(generator.integers(0, 50, 5))
        with pyro.plate("data", 5):
            pyro.sample("x", dist.Normal(z, 1.0), obs=data[index])

    svi = pv.SVI(model, lambda: guide(None), pyro.optim.Adam({"lr": 0.01}), Trace_ELBO(), capture=True)
    svi.step()
    with pytest.raises(CaptureError, match="in two runs one after the other"):
        svi.step()


def test_values_read_past_torch_are_refused():
    for read in (
        lambda x: float(x.mean()),
        lambda x: x.numpy().mean(),
        lambda x: x.tolist()[0] + 2.0,
        lambda x: np.asarray(x).max(),
        lambda x: 1.0 + len(x[x > 0]),
        lambda x: float(f"{x.sum():.3f}") + 2,
    ):

        def model(x, read=read):
            z = pyro.sample("z", dist.Normal(0.0, 2.0 + float(read(x))))
            with pyro.plate("data", len(x)):
                pyro.sample("x", dist.Normal(z, 1.0), obs=x)

        svi = captured(model, capture=True)
        svi.step(DATA)
        with pytest.raises(
            CaptureError, match=r"test_guard\.py:\d+.*(looks at the values|depends on the values)"
        ):
            svi.step(DATA)


def test_the_default_of_svi_never_captures():
    read, change = _class_attribute()
    losses = []
    for kind in (pyro.infer.SVI, pv.SVI):
        pyro.clear_param_store()
        svi = captured(model_with(read), kind=kind)
        torch.manual_seed(0)
        losses.append([svi.step(DATA) for _ in range(5)])
        change()
        losses[-1] += [svi.step(DATA) for _ in range(5)]
        Config.sigma = 1.0
    assert losses[0] == losses[1]


def test_comparisons_keep_to_their_share_of_the_time(monkeypatch):
    monkeypatch.setattr(guard, "SHARE", 0.0)
    seen = []
    monkeypatch.setattr(
        Guard, "compare", lambda self, at_once=True: seen.append(at_once or self._can_afford())
    )
    svi = captured(model_with(lambda: 1.0), capture=True)
    for _ in range(6):
        svi.step(DATA)
    assert seen
    svi.verify()
    assert seen[-1]
