"""Any Pyro program as half of a pair: functions, parameters, modules, PyroModules, autoguides, handlers."""

from __future__ import annotations

import copy

import pyro
import pyro.distributions as dist
import pytest
import torch
from pyro import poutine
from pyro.infer import SVI, Trace_ELBO
from pyro.infer.autoguide import AutoNormal
from pyro.nn import PyroModule, PyroParam, PyroSample
from torch import nn
from torch.distributions import constraints

import ppl_vae as pv
from ppl_vae import Pair, PairError, estimators, evaluate, fit, queries
from ppl_vae.core.meeting import meet
from ppl_vae.testing import check_pair
from tests.core import written_programs

X = torch.randn(12, 4, generator=torch.Generator().manual_seed(0))


def functions(plate="data", scale=0.7):
    """A model and a guide that register their nets, as Pyro's tutorials have them."""
    encoder = nn.Sequential(nn.Linear(4, 3), nn.Dropout(0.5), nn.Linear(3, 4))
    decoder = nn.Linear(2, 4)

    def model(x):
        pyro.module("decoder", decoder)
        noise = pyro.param("noise", torch.tensor(scale), constraint=constraints.positive)
        with pyro.plate(plate, len(x)):
            z = pyro.sample("z", dist.Normal(x.new_zeros(2), 1.0).to_event(1))
            pyro.sample("x", dist.Normal(decoder(z), noise).to_event(1), obs=x)

    def guide(x):
        pyro.module("encoder", encoder)
        with pyro.plate(plate, len(x)):
            loc, log_scale = encoder(x).chunk(2, -1)
            pyro.sample("z", dist.Normal(loc, log_scale.exp()).to_event(1))

    return model, guide


def made(pair, name):
    """The value of a parameter that pyro.param has made."""
    return pair.model.own_parameters.value(name, None, None).item()


def test_what_functions_make_belongs_to_the_pair_and_to_no_other():
    pyro.clear_param_store()
    pairs = [Pair(*functions(scale=0.7)), Pair(*functions(scale=0.2))]
    for pair in pairs:
        meet(pair, (X,))
        assert sum(parameter.numel() for parameter in pair.parameters()) == 2 * 4 + 4 + 12 + 3 + 12 + 4 + 1
    assert [made(pair, "noise") for pair in pairs] == pytest.approx([0.7, 0.2])
    assert not list(pyro.get_param_store().keys())
    fit(pairs[0], estimators.ELBO(), X, epochs=3, batch_size=12, learning_rate=0.1, progress=False)
    moved = [made(pair, "noise") for pair in pairs]
    assert 0 < moved[0] != pytest.approx(0.7)
    assert moved[1] == pytest.approx(0.2)


def test_losses_of_fit_are_those_of_stock_svi():
    torch.manual_seed(0)
    model, guide = functions()
    frozen = copy.deepcopy([cell.cell_contents for cell in model.__closure__ + guide.__closure__])
    pair = Pair(model, guide)
    history = fit(
        pair, Eager(), X, epochs=4, batch_size=12, learning_rate=0.05, progress=False, seed=3, check=False
    ).history
    for cell, value in zip(model.__closure__ + guide.__closure__, frozen):
        if isinstance(value, nn.Module):
            cell.cell_contents.load_state_dict(value.state_dict())
            cell.cell_contents.train().zero_grad()
    pyro.clear_param_store()
    svi = SVI(model, guide, pyro.optim.Adam({"lr": 0.05}), Trace_ELBO())
    torch.manual_seed(3)
    stock = []
    for epoch in range(4):
        order = torch.randperm(12, generator=torch.Generator().manual_seed(3 + epoch))
        stock.append(svi.step(X[order]) / 12)
    assert (-history["train_bound"]).tolist() == pytest.approx(stock, rel=1e-5)


class Eager(estimators.ELBO):
    """The evidence lower bound, never captured."""


def test_modules_of_functions_have_the_pairs_mode_and_device():
    pair = Pair(*functions())
    meet(pair, (X,))
    dropout = next(part for part in pair.modules() if isinstance(part, nn.Dropout))
    assert dropout.training
    first = queries.encode(pair, X).means["z"]
    torch.testing.assert_close(queries.encode(pair, X).means["z"], first)  # no dropout in a question
    fresh = Pair(*functions())
    torch.testing.assert_close(*(queries.encode(fresh, X).means["z"] for _ in range(2)))
    assert all(part.training for part in fresh.modules())
    assert all(parameter.dtype == torch.float64 for parameter in pair.double().parameters())
    assert check_pair(pair, X.double())


def test_a_parameter_of_a_module_is_trained_and_saved(tmp_path):
    pair = Pair(written_programs.WithParam(), written_programs.LinearGuide())
    run = fit(
        pair,
        estimators.ELBO(),
        X,
        epochs=5,
        batch_size=6,
        learning_rate=0.1,
        progress=False,
        run_dir=tmp_path,
    )
    scale = made(pair, "scale")
    assert scale != pytest.approx(1.0)
    again = pv.load(run.path, trust=["tests.core.written_programs"])
    assert made(again, "scale") == pytest.approx(scale)
    assert evaluate.bounds(again, X, seed=1).elbo == pytest.approx(evaluate.bounds(pair, X, seed=1).elbo)


def test_a_pair_of_functions_is_rebuilt_from_its_folder(tmp_path):
    pair = Pair(written_programs.model, written_programs.guide)
    run = fit(pair, estimators.ELBO(), X, epochs=2, batch_size=6, progress=False, run_dir=tmp_path / "run")
    assert pair.plate == "rows"
    again = pv.load(run.path, trust="tests.core.written_programs")
    assert evaluate.bounds(again, X, seed=1).elbo == pytest.approx(evaluate.bounds(pair, X, seed=1).elbo)
    with pytest.raises(pv.RunError, match="trust=\\('tests',\\)"):
        pv.load(run.path)
    resumed = fit(
        Pair(written_programs.model, written_programs.guide),
        estimators.ELBO(),
        X,
        epochs=3,
        batch_size=6,
        progress=False,
        run_dir=tmp_path / "run",
        resume=True,
    )
    assert len(resumed.history) == 3


def test_another_run_folder_of_functions_inside_of_functions_says_what_it_lacks(tmp_path):
    with pytest.warns(
        UserWarning, match=r"a function that nothing else can import.*pv.load\(path, pair=...\)"
    ):
        run = fit(Pair(*functions()), estimators.ELBO(), X, epochs=1, progress=False, run_dir=tmp_path)
    again = pv.load(run.path, pair=Pair(*functions()))
    for name, value in run.pair.state_dict().items():
        torch.testing.assert_close(again.state_dict()[name], value)


@pytest.mark.parametrize("plate", ["cells", "documents"])
def test_a_plate_by_another_name_is_found(plate):
    torch.manual_seed(0)
    named, plain = Pair(*functions(plate)), Pair(*functions())
    meet(named, (X,)), meet(plain, (X,))
    plain.load_state_dict(named.state_dict())
    assert (named.plate, plain.plate) == (plate, None)
    assert evaluate.bounds(named, X, seed=1).elbo == evaluate.bounds(plain, X, seed=1).elbo
    scores = [evaluate.log_likelihood(each, X, 20, seed=1, progress=False) for each in (named, plain)]
    assert torch.equal(scores[0].per_datum, scores[1].per_datum)
    assert queries.sample(named, 3, like=X).values["x"].shape == (3, 4)


def test_a_plate_that_is_called_data_and_is_not():
    """Sites in it are global latents, as sites in any other plate."""

    def model(x):
        with pyro.plate("data", 3):
            w = pyro.sample("w", dist.Normal(0.0, 1.0))
        with pyro.plate("rows", len(x)):
            z = pyro.sample("z", dist.Normal(w.sum(-1, keepdim=True), 1.0))
            pyro.sample("x", dist.Normal(z, 1.0), obs=x[:, 0])

    def guide(x):
        with pyro.plate("data", 3):
            pyro.sample("w", dist.Normal(pyro.param("w", torch.zeros(3)), 1.0))
        with pyro.plate("rows", len(x)):
            pyro.sample("z", dist.Normal(pyro.param("a", torch.tensor(0.5)) * x[:, 0], 1.0))

    report = check_pair(Pair(model, guide, plate="rows"), X, allow_global=True)
    assert report.global_sites == ("w",)


def test_each_program_gets_the_tensors_that_it_names():
    y, size = torch.arange(12) % 3, torch.full((12,), 2.0)

    def model(x, y, size):
        with pyro.plate("data", len(x)):
            z = pyro.sample("z", dist.Normal(y.float(), 1.0))
            pyro.sample(
                "x", dist.Normal(z[..., None] * size[:, None], 1.0).expand([12, 4]).to_event(1), obs=x
            )

    def guide(size, x):
        with pyro.plate("data", len(x)):
            pyro.sample("z", dist.Normal(pyro.param("a", torch.tensor(0.1)) * x[:, 0] / size, 1.0))

    pair = Pair(model, guide)
    assert pair.arguments == ("x", "y", "size")
    meet(pair, (X, y, size))
    particles = estimators.ELBO().draw(pair.model, pair.guide, X, y, size)
    loc = particles.guide_trace.nodes["z"]["fn"].mean
    torch.testing.assert_close(loc, 0.1 * X[:, 0] / 2)


def test_handlers_around_a_module():
    base = written_programs.LinearModel()
    pair = Pair(poutine.condition(base, data={"w": torch.tensor(2.0)}), written_programs.LinearGuide())
    assert check_pair(pair, X, allow_global=True).latent_sites.keys() == {"z"}
    assert len(list(pair.model.parameters())) == len(list(base.parameters()))


def test_pyro_modules_do_not_meet_in_pyros_store():
    pyro.clear_param_store()

    class Model(PyroModule):
        def __init__(self, start):
            super().__init__()
            self.net = PyroModule[nn.Linear](1, 4)
            self.scale = PyroParam(torch.tensor(start), constraint=constraints.positive)

        def forward(self, x):
            with pyro.plate("data", len(x)):
                z = pyro.sample("z", dist.Normal(x.new_zeros(1), 1.0).to_event(1))
                pyro.sample("x", dist.Normal(self.net(z), self.scale).to_event(1), obs=x)

    pairs = [Pair(Model(start), written_programs.LinearGuide(1)) for start in (0.5, 2.0)]
    scales = []
    for pair in pairs:
        check_pair(pair, X)
        particles = estimators.ELBO().draw(pair.model, pair.guide, X)
        scales.append(float(particles.model_trace.nodes["x"]["fn"].base_dist.scale.detach().unique()))
    assert scales == pytest.approx([0.5, 2.0])
    assert not list(pyro.get_param_store().keys())


def test_bayesian_regression_by_an_autoguide():
    class Regression(PyroModule):
        def __init__(self):
            super().__init__()
            self.linear = PyroModule[nn.Linear](3, 1)
            self.linear.weight = PyroSample(dist.Normal(0.0, 1.0).expand([1, 3]).to_event(2))

        def forward(self, x, y):
            loc = self.linear(x).squeeze(-1)
            with pyro.plate("data", len(x)):
                pyro.sample("y", dist.Normal(loc, 0.3), obs=y)

    torch.manual_seed(0)
    model, y = Regression(), X[:, :3] @ torch.tensor([1.0, -2.0, 0.5])
    pair = Pair(model, AutoNormal(model))
    check_pair(pair, X[:, :3], y, allow_global=True)
    before = -estimators.ELBO().loss(pair.model, pair.guide, X[:, :3], y)
    optimizer = torch.optim.Adam(pair.parameters(), 0.05)
    for _ in range(300):
        optimizer.zero_grad()
        estimators.ELBO().differentiable_loss(pair.model, pair.guide, X[:, :3], y).backward()
        optimizer.step()
    assert -estimators.ELBO().loss(pair.model, pair.guide, X[:, :3], y) > before + 10
    with pytest.warns(UserWarning, match="one by one"):
        particles = estimators.ELBO(50).draw(pair.model, pair.guide, X[:, :3], y)
    weights = particles.guide_trace.nodes["linear.weight"]["value"].detach().reshape(50, 3)
    assert weights.mean(0).tolist() == pytest.approx([1.0, -2.0, 0.5], abs=0.15)


def test_missing_observations_are_left_out_exactly():
    """obs_mask: the evidence of a linear-Gaussian pair is that of what is seen."""
    seen = torch.rand(12, generator=torch.Generator().manual_seed(1)) < 0.6
    value = X[:, 0].double()

    def model(x, seen):
        with pyro.plate("data", len(x)):
            z = pyro.sample("z", dist.Normal(x.new_zeros(()), 1.0))
            pyro.sample("x", dist.Normal(2.0 * z, 0.5), obs=x, obs_mask=seen)

    def guide(x, seen):  # the exact posterior
        precision = 1 + seen.double() * 4 / 0.25
        with pyro.plate("data", len(x)):
            pyro.sample("z", dist.Normal(seen * 2.0 * x / 0.25 / precision, precision.rsqrt()))

    pair = Pair(model, guide)
    exact = dist.Normal(value.new_zeros(()), value.new_tensor(4.25).sqrt()).log_prob(value) * seen
    weight = estimators.IWAE(3).draw(pair.model, pair.guide, value, seen).log_weight
    torch.testing.assert_close(weight, exact.expand(3, 12), rtol=1e-10, atol=1e-10)


def test_a_net_outside_of_the_pair_is_named():
    net = nn.Linear(2, 4)

    def model(x):
        with pyro.plate("data", len(x)):
            z = pyro.sample("z", dist.Normal(x.new_zeros(2), 1.0).to_event(1))
            pyro.sample("x", dist.Normal(net(z), 1.0).to_event(1), obs=x)

    with pytest.raises(PairError, match=r"2 parameters that do not.*pyro.module\('net'"):
        check_pair(Pair(model, written_programs.LinearGuide(2)), X)


def test_a_module_that_is_made_in_every_run_works_with_what_is_trained():
    def model(x):
        net = pyro.module("net", nn.Linear(2, 4))
        with pyro.plate("data", len(x)):
            z = pyro.sample("z", dist.Normal(x.new_zeros(2), 1.0).to_event(1))
            pyro.sample("x", dist.Normal(net(z), 1.0).to_event(1), obs=x)

    pair = Pair(model, written_programs.LinearGuide(2))
    check_pair(pair, X)
    latents = torch.zeros(3, 2)
    means = [pv.decode(pair, latents, like=X).means["x"] for _ in range(2)]
    assert torch.equal(*means)
    assert torch.equal(means[0][0], pair.model.own_parameters.modules_by_name["net"].bias.detach())


def test_another_module_of_another_shape_under_one_name_is_refused():
    def model(x):
        net = pyro.module("net", nn.Linear(2, 4) if len(x) == 12 else nn.Linear(2, 4, bias=False))
        with pyro.plate("data", len(x)):
            z = pyro.sample("z", dist.Normal(x.new_zeros(2), 1.0).to_event(1))
            pyro.sample("x", dist.Normal(net(z), 1.0).to_event(1), obs=x)

    pair = Pair(model, written_programs.LinearGuide(2))
    meet(pair, (X,))
    with pytest.raises(PairError, match="not of the same names and shapes"):
        estimators.ELBO().loss(pair.model, pair.guide, X[:4])


def test_a_copy_of_a_pair_of_functions_is_trained_apart():
    pair = Pair(*functions())
    meet(pair, (X,))
    before = {name: value.clone() for name, value in pair.state_dict().items()}
    again = copy.deepcopy(pair)
    fit(again, estimators.ELBO(), X, epochs=2, batch_size=6, learning_rate=0.1, progress=False)
    assert all(torch.equal(pair.state_dict()[name], value) for name, value in before.items())
    assert any(not torch.equal(again.state_dict()[name], value) for name, value in before.items())
    assert evaluate.bounds(again, X, seed=1).elbo > evaluate.bounds(pair, X, seed=1).elbo


def test_two_runs_of_one_files_functions_do_not_share_its_nets(tmp_path):
    runs = []
    for seed in (0, 1):
        pair = Pair(written_programs.model, written_programs.guide)
        run = fit(
            pair, estimators.ELBO(), X, epochs=2, seed=seed, progress=False, run_dir=tmp_path / str(seed)
        )
        runs.append((run.path, evaluate.bounds(pair, X, seed=1).elbo))
    loaded = [pv.load(path, trust="tests.core.written_programs") for path, _ in runs]
    for pair, (_, elbo) in zip(loaded, runs):
        assert evaluate.bounds(pair, X, seed=1).elbo == pytest.approx(elbo)
