"""Tables, labels and nets at the command line."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
import torch

import ppl_vae as pv
from ppl_vae import estimators, guides, likelihoods, models, nets
from ppl_vae.cli import main

QUICK = ("--epochs", "2", "--batch_size", "20", "--pair.latent_dim", "2", "--progress", "false")
FEW = ("--evaluate.num_particles", "20", "--report.num_data", "0", "--report.figures", "false")


@pytest.fixture
def table(tmp_path, monkeypatch):
    """A mixed table with gaps, as a file in the folder of now."""
    monkeypatch.chdir(tmp_path)
    generator = np.random.default_rng(0)
    kind = generator.integers(0, 2, 120)
    frame = pd.DataFrame(
        {
            "height": 170 + 10 * kind + generator.normal(0, 5, 120),
            "visits": generator.poisson(3 + 4 * kind).astype(float),
            "town": np.where(kind == 1, "Ulm", "Bonn"),
        }
    )
    frame.loc[generator.random(120) < 0.3, "height"] = np.nan
    frame.loc[generator.random(120) < 0.3, "town"] = None
    frame.to_csv("people.csv", index=False)
    return frame


def test_a_table_is_trained_on_and_comes_back_in_its_units(table, capsys):
    words = ["train", "--data", "people.csv", *QUICK, *FEW, "--pair.hidden", "[8]", "--run_dir", "run"]
    assert main(words) == 0
    assert main(["evaluate", "run", *FEW, "--progress", "false"]) == 0
    assert main(["sample", "run", "--num", "50", "--out", "new.csv"]) == 0
    drawn = pd.read_csv("new.csv")
    assert list(drawn.columns) == ["height", "visits", "town"]
    assert set(drawn["town"]) <= {"Ulm", "Bonn"}
    assert abs(drawn["height"].mean() - table["height"].mean()) < 15
    assert not drawn.isna().any().any()
    assert main(["train", *words[1:-1], "typed", "--load.columns", "{visits: numeric}"]) == 0
    assert {column.name: column.kind for column in pv.load_schema("typed")}["visits"] == "numeric"


def test_what_does_not_fit_is_said(table, capsys):
    assert main(["train", "--data", "digits", *QUICK, "--pair.net", "conv", "--pair.hidden", "[8]"]) != 0
    assert "--pair.hidden is of --pair.net mlp" in capsys.readouterr().err
    pv.fit(
        pv.Pair(models.LinearGaussian(2, 3), guides.MeanField(nets.MLPEncoder((3,), 2))),
        estimators.ELBO(),
        torch.randn(20, 3),
        epochs=1,
        progress=False,
        run_dir="plain",
    )
    assert main(["sample", "plain", "--out", "new.csv"]) != 0
    assert "Traceback" not in capsys.readouterr().err


def test_a_conditional_model_is_told_what_to_draw(tmp_path, capsys):
    likelihood, decoder = likelihoods.Bernoulli(event_dim=1), nets.MLPDecoder(2 + 3, (4,), (8,))
    pair = pv.Pair(
        models.ConditionalVAE(likelihood, decoder, latent_dim=2, num_classes=3),
        guides.Conditional(nets.MLPEncoder((4,), 2, (8,)), num_classes=3),
    )
    x, y = (torch.rand(30, 4) < 0.5).float(), torch.arange(30) % 3
    pv.fit(pair, estimators.ELBO(), (x, y), epochs=1, progress=False, run_dir=tmp_path / "run")
    out = tmp_path / "new.npz"
    assert main(["sample", str(tmp_path / "run"), "--num", "5", "--inputs.y", "2", "--out", str(out)]) == 0
    assert np.load(out)["x"].shape == (5, 4)
    assert main(["sample", str(tmp_path / "run"), "--inputs.w", "2", "--out", str(out)]) != 0
    assert "takes ['x', 'y']" in capsys.readouterr().err
