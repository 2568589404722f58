"""The command line on rows of a run's table that come in a file of their own."""

from __future__ import annotations

import re

import numpy as np
import pandas as pd
import pytest
import torch

import ppl_vae as pv
from ppl_vae import data, estimators, evaluate, guides, likelihoods, models, nets
from ppl_vae.cli import main


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A run on a table with gaps, and a file of rows without any, which alone would be a matrix."""
    torch.set_num_threads(1)
    home, draw = tmp_path_factory.mktemp("tables"), np.random.default_rng(0)
    frame = pd.DataFrame({"a": draw.normal(50, 10, 80).round(2), "b": draw.normal(1000, 100, 80).round(1)})
    frame[:6].to_csv(home / "new.csv", index=False)
    frame[6:7].to_csv(home / "one.csv", index=False)
    frame.loc[::9, "b"] = np.nan
    frame.to_csv(home / "table.csv", index=False)
    frame.assign(b=np.nan)[:5].to_csv(home / "empty.csv", index=False)
    frame[["b"]][:5].to_csv(home / "lacking.csv", index=False)
    known = data.load(home / "table.csv")
    likelihood = likelihoods.Mixed.of(known.schema)
    decoder = nets.MLPDecoder(2, likelihood.raw_shape((2,)), (4,))
    encoder = nets.ColumnEncoder.of(known.schema, latent_dim=2, hidden=(4,))
    pair = pv.Pair(models.VAE(likelihood, decoder, 2), guides.MeanField(encoder))
    options = {"epochs": 2, "progress": False, "device": "cpu", "capture": False}
    pv.fit(pair, estimators.ELBO(), known, run_dir=home / "run", **options)
    return home


@pytest.fixture(autouse=True)
def _in_folder(folder, monkeypatch):
    monkeypatch.chdir(folder)


def scores(name, *words):
    assert main(["score", "run", "--data", name, "--out", "scores.csv", *words]) == 0
    return pd.read_csv("scores.csv")["score"].to_numpy()


def test_a_file_of_numbers_alone_is_in_the_units_of_the_runs_table(folder):
    found = scores("new.csv", "--part", "all")
    pair, frame = pv.load("run"), pd.read_csv("new.csv")
    np.testing.assert_allclose(found, evaluate.anomaly(pair, frame, seed=0, progress=False).score, rtol=1e-5)
    for known in (data.load("new.csv", test_fraction=0.5), data.from_tensors(frame, test_fraction=0.5)):
        assert evaluate.anomaly(pair, known.test, seed=0, progress=False).score.max() < 2 * found.max()


@pytest.mark.filterwarnings("ignore:impute")  # of draws from a pair that is hardly trained
def test_one_row_and_a_column_without_values(folder):
    assert len(scores("one.csv", "--part", "all")) == 1
    assert len(scores("empty.csv", "--part", "all")) == 5
    assert main(["impute", "run", "--data", "empty.csv", "--part", "all", "--out", "full.csv"]) == 0
    assert 500 < pd.read_csv("full.csv")["value"].mean() < 1500


def test_parts_are_those_of_any_data():
    assert len(scores("new.csv")) == 1


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["--data", "lacking.csv"], "lacking.csv: the table has no column 'a': it has \\['b'\\]"),
        (["--data", "new.csv", "--load.standardise", "false"], "--load.standardise: the run's own table"),
        (["--part", "all"], "--part all is for a table of --data"),
        (["--data", "new.csv", "--part", "all", "--method", "typicality"], "give --entropy"),
    ],
)
def test_what_cannot_be(words, says, capsys):
    assert main(["score", "run", "--out", "scores.csv", *words]) != 0
    assert re.search(says, capsys.readouterr().err)
