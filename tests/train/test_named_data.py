"""Named arrays from the data set to the step, the evaluations, the questions and the run's folder."""

from __future__ import annotations

import pandas as pd
import pyro
import pyro.distributions as dist
import pytest
import scipy.sparse
import torch
import xarray
from torch import nn
from torch.utils.data import DataLoader, Dataset, TensorDataset

import ppl_vae as pv
from ppl_vae import comparison, data, estimators, evaluate
from ppl_vae.testing import check_pair

N, D, CLASSES = 60, 4, 3
GENERATOR = torch.Generator().manual_seed(0)
X = torch.randn(N, D, generator=GENERATOR)
Y = torch.arange(N) % CLASSES
MASK = torch.rand(N, D, generator=GENERATOR) < 0.7
ARRAYS = {"mask": MASK, "x": X, "unused": torch.arange(N), "y": Y}
QUICK = {"epochs": 2, "batch_size": 16, "progress": False}


class Model(nn.Module):
    """A linear-Gaussian model with a shift for each class, and pixels that are not seen."""

    def __init__(self):
        super().__init__()
        self.decoder, self.shift = nn.Linear(2, D), nn.Embedding(CLASSES, D)

    def forward(self, x, y, mask):
        assert (y.dtype, mask.dtype) == (torch.int64, torch.bool)
        with pyro.plate("data", len(x), dim=-1):
            z = pyro.sample("z", dist.Normal(x.new_zeros(2), 1.0).to_event(1))
            seen = dist.Normal(self.decoder(z) + self.shift(y), 0.5).mask(mask).to_event(1)
            pyro.sample("x", seen, obs=x)


class Guide(nn.Module):
    def __init__(self):
        super().__init__()
        self.encoder = nn.Linear(D, 4)

    def forward(self, x, y, mask):
        loc, raw = self.encoder(torch.where(mask, x, 0.0)).chunk(2, -1)
        with pyro.plate("data", len(x), dim=-1):
            pyro.sample("z", dist.Normal(loc, raw.exp()).to_event(1))


def make_pair(seed=0):
    torch.manual_seed(seed)
    return pv.Pair(Model(), Guide())


def exact(pair, rows=slice(None)):
    """log p(x_i, seen | y_i), (N,), from the marginal of the seen pixels alone."""
    weight, bias = pair.model.decoder.weight.double(), pair.model.decoder.bias.double()
    total = []
    for x, y, mask in zip(X[rows], Y[rows], MASK[rows]):
        w, mean = weight[mask], (bias + pair.model.shift(y).double())[mask]
        covariance = w @ w.T + 0.25 * torch.eye(int(mask.sum()), dtype=torch.float64)
        total.append(dist.MultivariateNormal(mean, covariance).log_prob(x[mask].double()))
    return torch.stack(total).detach()


def trained(given, **options):
    pair = make_pair()
    run = pv.fit(pair, estimators.ELBO(), given, **{**QUICK, **options})
    return run.history["train_bound"].tolist()


@pytest.fixture(scope="module")
def expected():
    """The losses on the batch by place, (x, y, mask)."""
    return trained((X, Y, MASK))


class Rows(Dataset):
    def __len__(self):
        return N

    def __getitem__(self, row):
        return {"mask": MASK[row], "x": X[row], "y": int(Y[row])}


def polars():
    frames = pytest.importorskip("polars")
    return {
        "x": frames.DataFrame(X.numpy()),
        "y": frames.Series(Y.numpy()),
        "mask": frames.DataFrame(MASK.numpy()),
    }


def anndata():
    known = pd.DataFrame({"y": Y.numpy()}, index=[str(row) for row in range(N)])
    kind = pytest.importorskip("anndata").AnnData
    return kind(scipy.sparse.csr_matrix(X.numpy()), obs=known, layers={"mask": MASK.numpy()})


KINDS = {
    "dictionary": lambda: ARRAYS,
    "another order": lambda: {name: ARRAYS[name] for name in ("y", "mask", "x")},
    "Split": lambda: data.Split.from_tensors(x=X, y=Y, mask=MASK),
    "NumPy": lambda: {name: array.numpy() for name, array in ARRAYS.items()},
    "tuple of NumPy": lambda: (X.numpy(), Y.numpy(), MASK.numpy()),
    "TensorDataset": lambda: TensorDataset(X, Y, MASK),
    "Dataset": Rows,
    "DataLoader": lambda: DataLoader(Rows(), batch_size=7, shuffle=True),
    "pandas": lambda: {
        "x": pd.DataFrame(X.numpy()),
        "y": pd.Series(Y.numpy()),
        "mask": pd.DataFrame(MASK.numpy()),
    },
    "Polars": polars,
    "xarray": lambda: xarray.Dataset(
        {
            "y": ("cell", Y.numpy()),
            "mask": (("gene", "cell"), MASK.numpy().T),
            "x": (("cell", "gene"), X.numpy()),
        }
    ),
    "sparse": lambda: {
        "x": scipy.sparse.csr_matrix(X.numpy()),
        "y": Y,
        "mask": scipy.sparse.csr_array(MASK.numpy()),
    },
    "AnnData": anndata,
}


@pytest.mark.parametrize("kind", KINDS)
def test_fit_by_name_is_fit_by_place(kind, expected):
    given = KINDS[kind]()
    assert trained(given) == expected
    pair = make_pair()
    found, wanted = (evaluate.bounds(pair, each, seed=0).per_datum for each in (given, (X, Y, MASK)))
    assert torch.equal(found, wanted)
    assert torch.equal(
        pv.encode(pair, given, seed=0).means["z"], pv.encode(pair, X, Y, MASK, seed=0).means["z"]
    )


def test_a_data_set_of_three_arrays_is_trained_validated_and_judged():
    sets = data.from_tensors(**ARRAYS, seed=1)
    pair = make_pair()
    run = pv.fit(pair, estimators.ELBO(), sets, **QUICK)
    assert run.history["valid_bound"].notna().all()
    by_name = evaluate.bounds(pair, sets.test, seed=3)
    rows = sets.test.choose(["unused"]).tensors()[0]
    by_place = evaluate.bounds(pair, (X[rows], Y[rows], MASK[rows]), seed=3)
    assert by_name.elbo == pytest.approx(by_place.elbo, rel=1e-6)
    truth = exact(pair, rows)
    found = evaluate.log_likelihood(pair, sets.test, 2000, seed=0)
    assert found.per_datum.mean().item() == pytest.approx(truth.mean().item(), abs=0.2)
    assert (by_name.per_datum.mean() < truth.mean()).item()


def test_what_mask_says_reaches_the_model():
    pair = make_pair()
    everything = {**ARRAYS, "mask": torch.ones_like(MASK)}
    assert evaluate.bounds(pair, everything, seed=0).elbo != pytest.approx(
        evaluate.bounds(pair, ARRAYS, seed=0).elbo
    )


@pytest.mark.parametrize("backend", ["graph"])
def test_the_captured_step_makes_its_batch_of_several_arrays(backend, expected):
    from ppl_vae.train.captured_step import CapturedStep
    from ppl_vae.train.objective import Objective

    losses = []
    for captures in (False, True):
        pair = make_pair()
        split = data.for_pair(data.Split.from_tensors(ARRAYS), pair)
        optimizer = torch.optim.Adam(pair.parameters(), lr=1e-2)
        objective = Objective(pair, estimators.ELBO())
        step = CapturedStep(objective, optimizer, backend=backend, same_noise=True)
        torch.manual_seed(5)
        order = torch.randperm(N, generator=torch.Generator().manual_seed(1)).split(15)
        if captures:
            losses.append([step.on(split, index).item() for index in order])
        else:
            losses.append([step(*(t.clone() for t in split.batch(index))).item() for index in order])
    assert losses[1] == pytest.approx(losses[0], rel=1e-5)


def test_questions_take_names():
    pair = make_pair()
    pv.fit(pair, estimators.ELBO(), ARRAYS, **QUICK)
    by_place = pv.encode(pair, X, Y, MASK, seed=0).means["z"]
    for given in (ARRAYS, data.Split.from_tensors(ARRAYS), (X, Y, MASK)):
        assert torch.equal(pv.encode(pair, given, seed=0).means["z"], by_place)
        assert pv.reconstruct(pair, given, seed=0).values["x"].shape == X.shape
        assert pv.sample(pair, 5, like=given, seed=0).values["x"].shape == (5, D)
    one = {name: array[:3] for name, array in ARRAYS.items()}
    assert pv.sample(pair, 3, like=one, inputs={"y": 2}, seed=0).values["x"].shape == (3, D)
    with pytest.raises(ValueError, match="what is missing is y"):
        pv.encode(pair, {"x": X, "mask": MASK})


def test_check_pair_and_compare_take_names(tmp_path):
    for given in (ARRAYS, (X, Y, MASK), data.Split.from_tensors(ARRAYS), data.from_tensors(**ARRAYS)):
        assert check_pair(make_pair(), given).inputs == ("y", "mask")
    result = pv.compare(
        make_pair, {"one": estimators.ELBO()}, data.from_tensors(**ARRAYS),
        epochs=1, seeds=[0], run_dir=tmp_path, batch_size=16, judge_particles=5,
    )  # fmt: skip
    assert result.after_training.dataset["log_likelihood"].notnull().all()
    for given in (ARRAYS, data.Split.from_tensors(ARRAYS)):
        at = comparison.at_point(make_pair(), {"one": estimators.ELBO()}, given, num_particles=[1], draws=20)
        assert at.dataset["bound"].notnull().all()


def test_a_run_is_of_every_array_that_is_sent(tmp_path):
    trained(ARRAYS, run_dir=tmp_path / "run", epochs=1)
    other = {**ARRAYS, "mask": MASK ^ (torch.arange(N * D).reshape(N, D) == 7)}
    with pytest.raises(pv.RunError, match=r"data.train.arrays.mask.values was '\w+', is '\w+'"):
        trained(other, run_dir=tmp_path / "run", resume=True)
    classes = {**ARRAYS, "y": (Y + 1) % CLASSES}
    with pytest.raises(pv.RunError, match=r"data.train.labels was"):
        trained(classes, run_dir=tmp_path / "run", resume=True)
    unused = {**ARRAYS, "unused": torch.zeros(N)}
    assert len(trained(unused, run_dir=tmp_path / "run", resume=True)) == 2
    again = pv.load(tmp_path / "run", pair=make_pair())
    assert torch.isfinite(pv.encode(again, ARRAYS).means["z"]).all()


def test_labels_that_are_not_given_are_said():
    def program(x, y=None):
        with pyro.plate("data", len(x), dim=-1):
            z = pyro.sample("z", dist.Normal(torch.zeros(len(x)), 1.0))
            return pyro.sample("x", dist.Normal(z[..., None] + torch.zeros(D), 1.0).to_event(1), obs=x)

    class Both(nn.Module):
        def __init__(self, forward):
            super().__init__()
            self.scale = nn.Parameter(torch.ones(()))
            self.run = forward

        def forward(self, x, y=None):
            return self.run(x, y)

    class OwnGuide(Both):
        def forward(self, x, y=None):
            with pyro.plate("data", len(x), dim=-1):
                pyro.sample("z", dist.Normal(x[:, 0] * self.scale, 1.0))

    pair = pv.Pair(Both(program).requires_grad_(False), OwnGuide(None))
    with pytest.warns(UserWarning, match="labels=True gives them"):
        pv.fit(pair, estimators.ELBO(), data.from_tensors(X, Y), **QUICK)
