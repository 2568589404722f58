"""The command line's whole report, evaluation, pictures and inference data,
over every pair of the zoo and of oddities.
"""

from __future__ import annotations

import io
import json

import matplotlib

matplotlib.use("Agg")

import pyro
import pyro.distributions as dist
import pytest
import torch
from torch import nn

import ppl_vae as pv
from ppl_vae import data
from ppl_vae.cli import report
from ppl_vae.core.arguments import parameters_of
from tests.zoo import CASES, REAL

SIZE = 24


@pytest.fixture
def drawn(monkeypatch):
    """The pictures by name; nothing is written, since that takes most of the time."""
    found = {}
    monkeypatch.setattr(report, "save_figure", lambda axes, path: found.update({path.stem: axes}))
    return found


@pytest.fixture
def rendered(monkeypatch):
    """The pictures by name, rendered in a small size: layout happens while drawing,
    and so do its warnings.
    """
    found = {}

    def keep(axes, path):
        axes.figure.savefig(io.BytesIO(), dpi=20)
        found[path.stem] = axes

    monkeypatch.setattr(report, "save_figure", keep)
    return found


def whole_report(pair, split, folder):
    pair.eval().remember(split.take(8).tensors())
    judgement = report.judge(pair, split, seed=0, progress=False, num_particles=30, method="importance")
    left_out = report.write_report(folder, pair, split, judgement, None, num_data=3, num_samples=4)
    if not any(line.startswith("inference_data.nc: ") for line in left_out):
        assert (folder / "inference_data.nc").stat().st_size > 0
    has_bounds = type(judgement.result).__name__ != "ActiveUnits"
    assert ("ELBO" in (folder / "summary.txt").read_text()) == has_bounds
    json.loads((folder / "summary.json").read_text(), parse_constant=pytest.fail)
    return left_out


def split_of(case):
    x, *y = case.batch(size=SIZE)
    missing = bool(x.is_floating_point() and x.isnan().any())
    names = [parameter.name for parameter in parameters_of(case.pair().model) or ()]
    if y and names[1] != "y":  # several arrays, which go by the names of the program's arguments
        return data.Split.from_tensors(missing=True, **dict(zip(names, (x, *y), strict=True)))
    return data.Split.from_tensor(x, *y, labels=bool(y), missing=missing)


# guides over all of R^d, which a report cannot tell apart
FLEXIBLE = set(REAL) - {"MeanField", "FullRank"}
SPHERE = "figure traversal: site 'z' lives on Sphere, where no dimension can move alone"


# whose pictures are known one by one; of the others those that every pair has, or the reason why not
TABLED = {"VAE", "LinearGaussian", "FactorAnalysis", "ConditionalVAE", "SemiSupervisedVAE", "LadderVAE"}
TABLED |= {"BayesianDecoderVAE", "Autoencoder"}
OTHERWISE = {"Bernoulli", "Categorical", "VectorQuantised", "TwoStage", "WrappedNormal"}
OTHERWISE |= {"ResidualQuantised", "RiemannianHamiltonian"}

REPORTED = [
    pytest.param(
        case,
        id=case.id,
        marks=[pytest.mark.grid] * (case.combined or case.guide in FLEXIBLE or case.model not in TABLED),
    )
    for case in CASES
]


@pytest.mark.parametrize("case", REPORTED)
def test_every_pair_of_the_zoo(case, tmp_path, drawn):
    left_out = whole_report(case.pair(), split_of(case), tmp_path)
    expected = {"latent_map", "reconstructions", "samples", "traversal"}
    expected |= {"k_hat"} if case.model not in ("BayesianDecoderVAE", "Autoencoder") else set()
    expected |= {"interpolation"} if len(case.shape) == 3 else set()
    expected |= {"samples_by_label"} if case.labels else set()
    second = "z1" if case.guide == "TopDown" else "z2"
    expected |= {f"latent_map_{second}", f"traversal_{second}"} if case.model == "LadderVAE" else set()
    expected -= {"traversal"} if case.detail == "Sphere" else set()
    expected -= set() if case.has_prior else {"samples"}
    if (
        case.model not in TABLED or case.guide in OTHERWISE
    ):  # codes of bits or layers: other pictures of latents
        shown = {"reconstructions", "samples"} - (set() if case.has_prior else {"samples"})
        told = " ".join(left_out)
        assert all(name in drawn or f"figure {name}: " in told for name in shown), left_out
        return
    assert set(drawn) == expected
    reasons = (
        [SPHERE]
        if case.detail == "Sphere"
        else []
        if case.has_prior
        else ["figure samples: the model has no prior"]
    )
    assert len(left_out) == len(reasons), left_out
    assert all(line.startswith(reason) for line, reason in zip(left_out, reasons))


class Odd(nn.Module):
    """A model of latents and data of choice: sites by name, each with its prior,
    and the shape of the data.
    """

    def __init__(self, priors, shape, label=""):
        super().__init__()
        self.priors, self.shape, self.label = priors, shape, label
        self.bias = nn.Parameter(torch.zeros(shape))

    def forward(self, x, y=None):
        with pyro.plate("data", len(x), dim=-1):
            total = 0.0
            for name, prior in self.priors.items():
                z = pyro.sample(name, prior())
                total = total + z.float().reshape(*z.shape[: z.dim() - len(prior().event_shape)], -1).sum(-1)
            if self.label == "observed":
                pyro.sample("y", dist.Categorical(logits=x.new_zeros(3)), obs=y)
            loc = total.reshape(*total.shape, *[1] * len(self.shape)) + self.bias
            pyro.sample("x", dist.Normal(loc, 1.0).to_event(len(self.shape)), obs=x)


class OddGuide(nn.Module):
    """The priors' families, moved by the data's mean."""

    def __init__(self, posteriors):
        super().__init__()
        self.posteriors = posteriors
        self.weight = nn.Parameter(torch.tensor(0.1))

    def forward(self, x, y=None):
        mean = self.weight * x.flatten(1).mean(-1)
        with pyro.plate("data", len(x), dim=-1):
            for name, posterior in self.posteriors.items():
                pyro.sample(name, posterior(mean))


def normal(*event):
    def prior(mean=None):
        loc = torch.zeros(event) if mean is None else mean.reshape(-1, *[1] * len(event)).expand(-1, *event)
        return dist.Normal(loc, 1.0).to_event(len(event))

    return prior


def positive(mean=None):
    return dist.LogNormal(torch.zeros(()) if mean is None else mean, 0.5)


def coin(mean=None):
    return dist.Bernoulli(logits=torch.zeros(()) if mean is None else mean)


ODD = {
    "a scalar per datum": ({"z": normal()}, (1, 4, 4), ""),
    "a scalar per datum, vectors": ({"z": normal()}, (5,), ""),
    "a positive scalar": ({"z": positive}, (5,), ""),
    "a matrix per datum": ({"z": normal(2, 3)}, (1, 4, 4), ""),
    "several sites": ({"c": coin, "u": normal(2), "v": normal()}, (3, 4, 4), ""),
    "discrete alone": ({"c": coin}, (5,), ""),
    "an observed label": ({"z": normal(2)}, (1, 4, 4), "observed"),
    "a label that nobody reads": ({"z": normal(2)}, (1, 4, 4), "unread"),
    "an observed label, vectors": ({"z": normal(2)}, (5,), "observed"),
    "numbers": ({"z": normal(1)}, (1,), ""),
    "points": ({"z": normal(3)}, (2,), ""),
    "matrices": ({"z": normal(2)}, (5, 6), ""),
    "two channels": ({"z": normal(2)}, (2, 3, 3), ""),
    "colour": ({"z": normal(2)}, (3, 8, 8), ""),
}


@pytest.mark.parametrize("name", ODD)
def test_latents_and_data_of_other_kinds(name, tmp_path, rendered):
    priors, shape, label = ODD[name]
    x, y = torch.randn(SIZE, *shape), torch.arange(SIZE) % 3
    split = data.Split.from_tensor(x, y if label else None, labels=bool(label))
    pair = pv.Pair(Odd(priors, shape, label), OddGuide(priors))
    assert whole_report(pair, split, tmp_path) == []
    real = [site for site, prior in priors.items() if prior is not coin]
    expected = {"k_hat", "reconstructions", "samples"}
    expected |= {f"{kind}_{site}" for kind in ("latent_map", "traversal") for site in real[1:]}
    expected |= {"latent_map", "traversal"} if real else set()
    is_image = len(shape) == 2 or (len(shape) == 3 and shape[0] != 2)
    expected |= {"interpolation"} if is_image and real else set()
    expected |= {"samples_by_label"} if is_image and label else set()
    assert set(rendered) == expected


@pytest.mark.parametrize("shape", [(1, 4, 4), (5,)])
def test_a_single_test_datum_is_judged_by_its_bound(shape, tmp_path, drawn):
    split = data.Split.from_tensor(torch.randn(1, *shape))
    whole_report(pv.Pair(Odd({"z": normal(2)}, shape), OddGuide({"z": normal(2)})), split, tmp_path)
    assert "the ELBO alone: a variance needs two rows" in (tmp_path / "summary.txt").read_text()
    assert {"reconstructions", "samples", "traversal"} <= set(drawn)


def test_rows_of_labels_are_samples_of_those_labels(tmp_path, rendered):
    case = next(case for case in CASES if case.id == "ConditionalVAE-Conditional-learned_prior")
    whole_report(case.pair(), split_of(case), tmp_path)
    axes = rendered["samples_by_label"]
    assert [text.get_text() for text in axes.get_yticklabels()] == ["0", "1", "2"]
    assert axes.get_ylabel() == "label"
