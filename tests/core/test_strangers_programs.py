"""Programs as other people write them: what stands under autoguides, reparameterisations and factors."""

from __future__ import annotations

import functools

import pyro
import pyro.distributions as dist
import pytest
import torch
from pyro import poutine
from pyro.distributions.transforms import affine_autoregressive
from pyro.infer.autoguide import AutoNormal, AutoNormalizingFlow
from pyro.infer.reparam import LocScaleReparam
from pyro.nn import PyroModule, PyroParam, pyro_method
from torch import nn

import ppl_vae as pv
from ppl_vae import Pair, PairError, data, estimators, evaluate
from ppl_vae.data.data_error import DataError
from ppl_vae.testing import check_pair

X = torch.randn(12, generator=torch.Generator().manual_seed(0))


def schools(x, scale):
    mean = pyro.sample("mean", dist.Normal(0.0, 5.0))
    with pyro.plate("schools", len(x)):
        effect = pyro.sample("effect", dist.Normal(mean, 2.0))
        pyro.sample("x", dist.Normal(effect, scale), obs=x)


def test_what_a_reparameterisation_leaves_is_no_data():
    model = poutine.reparam(schools, config={"effect": LocScaleReparam()})  # how far apart is learned
    pair = Pair(model, AutoNormal(model))
    assert pair.arguments == ("x", "scale")  # through the handler
    batch = {"scale": torch.ones(12), "x": X}
    report = check_pair(pair, batch, allow_global=True)
    assert list(report.observed_sites) == ["x"]
    assert "effect_centered" in pair.model.own_parameters.unconstrained
    pair.remember((X, torch.ones(12)))
    assert list(pv.sample(pair, 12, like=(X, torch.ones(12))).values) == ["x"]


def test_what_is_kept_for_each_datum_is_loaded_into_a_pair_that_is_built_anew(tmp_path):
    def made():
        model = poutine.reparam(schools, config={"effect": LocScaleReparam(0.0)})
        return Pair(model, AutoNormal(model))

    pair, given = made(), {"x": X, "scale": torch.ones(12)}
    with pytest.warns(UserWarning, match="cannot be rebuilt"):
        pv.fit(
            pair, estimators.ELBO(), given, epochs=1, progress=False, run_dir=tmp_path / "run", capture=False
        )
    again = pv.load(tmp_path / "run", pair=made())
    assert evaluate.bounds(again, given).elbo == evaluate.bounds(pair, given).elbo


def test_an_autoguides_own_fault_is_not_laid_to_the_data():
    def model(x):
        w = pyro.sample("w", dist.Normal(torch.zeros(4), 1.0).to_event(1))
        with pyro.plate("data", len(x)):
            pyro.sample("x", dist.Normal(w.sum(-1), 1.0), obs=x)

    guide = AutoNormalizingFlow(model, functools.partial(affine_autoregressive, hidden_dims=[2]))
    with pytest.raises(PairError, match="Hidden dimension must not be less than") as caught:
        evaluate.bounds(Pair(model, guide), X)
    assert "first run" not in str(caught.value)


def test_a_guide_with_factors_trains_and_is_not_judged():
    """The exact posterior with a factor would stand far above the evidence; without it, it meets it."""

    def model(x):
        with pyro.plate("data", len(x)):
            z = pyro.sample("z", dist.Normal(0.0, 1.0))
            pyro.sample("x", dist.Normal(z, 1.0), obs=x)

    def guide(x):
        with pyro.plate("data", len(x)):
            pyro.sample("z", dist.Normal(x * pyro.param("slope", torch.tensor(0.5)), 0.5**0.5))
            pyro.factor("penalty", x.new_full(x.shape, -5.0), has_rsample=True)

    pair = Pair(model, guide)
    assert "'penalty'" in str(check_pair(pair, X).notes)
    for score in (evaluate.bounds, evaluate.log_likelihood):
        with pytest.raises(PairError, match=r"the guide has the factors \['penalty'\]"):
            score(pair, X)
    alone = Pair(model, poutine.block(guide, hide=["penalty"]))
    exact = dist.Normal(0.0, 2**0.5).log_prob(X).mean().item()
    assert evaluate.log_likelihood(alone, X, 5, progress=False).value == pytest.approx(exact, abs=1e-5)


def test_methods_of_one_pyro_module_train_its_parameters():
    class Line(PyroModule):
        def __init__(self):
            super().__init__()
            self.noise = PyroParam(torch.tensor(0.7), constraint=dist.constraints.positive)
            self.slope, self.encoder = nn.Linear(1, 1), nn.Linear(1, 1)

        @pyro_method
        def model(self, x):
            with pyro.plate("data", len(x)):
                z = pyro.sample("z", dist.Normal(0.0, 1.0))
                pyro.sample("x", dist.Normal(self.slope(z[..., None])[..., 0], self.noise), obs=x)

        @pyro_method
        def guide(self, x):
            with pyro.plate("data", len(x)):
                pyro.sample("z", dist.Normal(self.encoder(x[:, None])[:, 0], 1.0))

    both = Line()
    pair = Pair(both.model, both.guide)
    assert check_pair(pair, X).num_parameters == 5
    before = both.noise.item()
    pv.fit(pair, estimators.ELBO(), X, epochs=2, learning_rate=0.1, progress=False, capture=False)
    assert both.noise.item() != before


def test_a_models_factors_are_no_data():
    def model(x, censored):
        with pyro.plate("data", len(x)):
            rate = pyro.sample("rate", dist.Gamma(2.0, 2.0))
            with poutine.mask(mask=~censored):
                pyro.sample("x", dist.Exponential(rate), obs=x)
            with poutine.mask(mask=censored):
                pyro.factor("survived", -rate * x)

    def guide(x, censored):  # the posterior, exactly
        with pyro.plate("data", len(x)):
            pyro.sample("rate", dist.Gamma(2.0 + (~censored).float(), 2.0 + x))

    batch = {"x": X.exp(), "censored": torch.arange(12) % 3 == 0}
    pair = Pair(model, guide)
    report = check_pair(pair, batch)
    assert list(report.observed_sites) == ["x"]
    assert "'survived'" in str(report.notes)
    x, censored = batch["x"], batch["censored"]
    # Gamma-Exponential: p(x) = 2 * 2**2 / (2 + x)**3, P(longer than x) = 2**2 / (2 + x)**2
    exact = torch.where(censored, 4 / (2 + x) ** 2, 8 / (2 + x) ** 3).log().mean().item()
    assert evaluate.log_likelihood(pair, batch, 5, progress=False).value == pytest.approx(exact, abs=1e-4)


def test_keywords_that_are_never_given_are_refused():
    def model(x, **kwargs):
        with pyro.plate("data", len(x)):
            z = pyro.sample("z", dist.Normal(0.0, 1.0))
            pyro.sample("y", dist.Normal(z + x, 1.0), obs=kwargs.get("y"))

    def guide(x, **kwargs):
        with pyro.plate("data", len(x)):
            pyro.sample("z", dist.Normal(0.0, 1.0))

    with pytest.raises(DataError, match="take 'y' by keyword alone"):
        pv.fit(Pair(model, guide), estimators.ELBO(), {"x": X, "y": X}, progress=False, check=False)


def test_names_are_not_taken_for_places():
    def model(*batch):
        x, scale = batch
        with pyro.plate("data", len(x)):
            pyro.sample("x", dist.Normal(pyro.sample("z", dist.Normal(0.0, 1.0)), scale), obs=x)

    def guide(*batch):
        with pyro.plate("data", len(batch[0])):
            pyro.sample("z", dist.Normal(0.0, 1.0))

    pair, scale = Pair(model, guide), torch.full((12,), 0.5)
    with pytest.raises(DataError, match=r"nobody knows where scale, x belong.*argument_names"):
        evaluate.bounds(pair, {"scale": scale, "x": X})
    assert evaluate.bounds(pair, (X, scale)).elbo == evaluate.bounds(pair, data.as_split((X, scale))).elbo
