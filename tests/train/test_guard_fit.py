"""`fit` with captured steps whose programs change in Python: as they are written, or refused by the line."""

from __future__ import annotations

import pyro
import pyro.distributions as dist
import pytest
import torch
from torch import nn

import ppl_vae as pv
from ppl_vae import estimators
from ppl_vae.capture import CaptureError, guard
from ppl_vae.train import captured_step, loop
from tests.capture.helpers import difference

DATA = torch.linspace(-1, 1, 48).reshape(24, 2)
SETTINGS = {"weight": 0.5}
ATTRIBUTE = r"(Annealed|model)\.(weight|calls)"


@pytest.fixture(autouse=True)
def _often(monkeypatch):
    """Comparisons that no share of the time keeps back."""
    monkeypatch.setattr(guard, "SHARE", float("inf"))
    SETTINGS["weight"] = 0.5


class Annealed(nn.Module):
    """A weight of the KL term: an attribute, an entry of a global, or a count of the calls."""

    def __init__(self, where):
        super().__init__()
        self.where, self.weight, self.calls = where, 1.0, 0

    def forward(self, x):
        if self.where == "counter":
            self.calls += 1
        weight = {"attribute": self.weight, "global": SETTINGS["weight"], "counter": min(1, self.calls / 500)}
        with pyro.plate("data", len(x), dim=-1):
            with pyro.poutine.scale(scale=weight[self.where]):
                z = pyro.sample("z", dist.Normal(x.new_zeros(2), 1.0).to_event(1))
            pyro.sample("x", dist.Normal(z, 1.0).to_event(1), obs=x)


class Guide(nn.Module):
    def __init__(self):
        super().__init__()
        self.net = nn.Linear(2, 2)

    def forward(self, x):
        with pyro.plate("data", len(x), dim=-1), pyro.poutine.scale(scale=1.0):
            pyro.sample("z", dist.Normal(self.net(x), 0.7).to_event(1))


def trained(where, capture, change=None, at=0.0, **options):
    """A training in which `change(model, t)` is called before each step from the fraction `at` on."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model, pair_guide = Annealed(where), Guide()
    pair, first = pv.Pair(model, pair_guide), SETTINGS["weight"]

    def schedule(t):
        if t == 0:
            model.weight = SETTINGS["weight"] = first
        if change is not None and t >= at:
            change(model, t)
        return 1.0

    fixed = {"batch_size": 4, "progress": False, "check": False, "device": "cpu", "epochs": 10}
    run = pv.fit(pair, estimators.ELBO(), DATA, capture=capture, schedule=schedule, **fixed | options)
    return pair, run


def set_attribute(model, t):
    model.weight = 0.25


def set_global(model, t):
    SETTINGS["weight"] = 0.25


def anneal(model, t):
    model.weight = 0.1 + t


def test_an_attribute_that_is_set_is_seen_at_once(uncompiled):
    written, _ = trained("attribute", False, set_attribute, at=0.5)
    captured, _ = trained("attribute", True, set_attribute, at=0.5)
    assert len(uncompiled[0]._graphs) == 2
    assert difference(written, captured) < 1e-5


def test_an_attribute_that_is_annealed_is_refused_or_runs_as_written(uncompiled, monkeypatch):
    with pytest.raises(CaptureError, match=rf"{ATTRIBUTE} keeps changing.*0-d tensor"):
        trained("attribute", True, anneal)
    written, _ = trained("attribute", False, anneal)
    uncompiled.clear()
    monkeypatch.setattr(loop, "worth_trying", lambda *_: True)
    monkeypatch.setattr(captured_step, "worth_capturing", lambda *_: True)
    with pytest.warns(UserWarning, match="keeps changing"):
        captured, _ = trained("attribute", "auto", anneal)
    assert difference(written, captured) < 1e-5


def test_a_counter_in_forward_is_refused(uncompiled):
    with pytest.raises(CaptureError, match=rf"a program changes .*{ATTRIBUTE}.*whenever it runs"):
        trained("counter", True)


@pytest.mark.filterwarnings("ignore:schedule=", "ignore:this pair cannot be rebuilt", "ignore:.*rebuil")
def test_a_global_that_is_set_is_refused_and_the_pair_goes_back(uncompiled, tmp_path):
    with pytest.raises(CaptureError, match=r"was 0\.5.*is 0\.25.*are back"):
        trained("global", True, set_global, at=0.43, run_dir=tmp_path / "run")
    SETTINGS["weight"] = 0.5
    good, _ = trained("global", False, epochs=4)
    # an epoch that had both programs never came to the disk
    saved = pv.load(tmp_path / "run", pair=pv.Pair(Annealed("global"), Guide()))
    assert difference(good, saved) < 1e-5


def test_auto_warns_goes_back_and_goes_on_as_written(uncompiled, monkeypatch):
    monkeypatch.setattr(loop, "worth_trying", lambda *_: True)
    monkeypatch.setattr(captured_step, "worth_capturing", lambda *_: True)
    with pytest.warns(UserWarning, match=r"was 0\.5.*is 0\.25.*are back") as caught:
        _, run = trained("global", "auto", set_global, at=0.5)
    assert len([each for each in caught if "runs as written" in str(each.message)]) == 1
    SETTINGS["weight"] = 0.25
    _, written = trained("global", False)
    late = run.history.train_bound.iloc[-1], written.history.train_bound.iloc[-1]
    assert late[0] == pytest.approx(late[1], abs=0.3)


def fitted(capture, estimator, pair=None, **options):
    if pair is None:
        torch.manual_seed(0)
        pair = pv.Pair(Annealed("attribute"), Guide()).double()
    fixed = {"batch_size": 8, "progress": False, "check": False, "device": "cpu", "epochs": 5}
    pv.fit(pair, estimator, DATA.double(), capture=capture, **fixed, **options)
    return pair


def test_a_hook_on_a_gradient_that_comes_and_goes_is_seen_at_once(uncompiled):
    def trained_with_hooks(capture):
        torch.manual_seed(0)
        pair, hooks = pv.Pair(Annealed("attribute"), Guide()).double(), []

        def schedule(t):
            if hooks and not 0.3 < t < 0.7:
                hooks.pop().remove()
            if not hooks and 0.3 < t < 0.7:
                hooks.append(pair.guide.net.weight.register_hook(lambda gradient: gradient * 0.1))
            return 1.0

        return fitted(capture, estimators.ELBO(), pair, schedule=schedule)

    assert difference(trained_with_hooks(False), trained_with_hooks(True)) < 1e-10
    assert len(uncompiled[0]._graphs) == 2


def test_pyros_renyi_bound_is_captured_with_one_particle_after_another(uncompiled):
    written, captured = (fitted(capture, pyro.infer.RenyiELBO(0.5, 3)) for capture in (False, True))
    assert difference(written, captured) < 1e-10
    assert len(uncompiled) == 1
