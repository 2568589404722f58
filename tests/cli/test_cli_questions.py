"""`ppl-vae impute`, `score`, `edit`, `compress` and `calibrate`: what Python answers, from a run's folder."""

from __future__ import annotations

import importlib.util
import re

import numpy as np
import pandas as pd
import pytest
import torch

import ppl_vae as pv
from ppl_vae import evaluate
from ppl_vae.cli import main

QUICK = ("--epochs", "2", "--batch_size", "20", "--pair.latent_dim", "2", "--pair.hidden", "[8]")
FEW = ("--evaluate.num_particles", "20", "--report.num_data", "0", "--report.figures", "false")
QUIET = ("--progress", "false")


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A run on a table with gaps, and one on bits."""
    folder = tmp_path_factory.mktemp("questions")
    generator = np.random.default_rng(0)
    size = generator.normal(0, 1, 120)
    frame = pd.DataFrame(
        {"size": 50 + 10 * size, "kind": np.where(size > 0, "large", "small"), "n": generator.poisson(3, 120)}
    )
    frame.loc[generator.random(120) < 0.3, "size"] = np.nan
    frame.loc[generator.random(120) < 0.3, "kind"] = None
    frame.to_csv(folder / "t.csv", index=False)
    np.savez(folder / "bits.npz", x=(generator.random((80, 6)) < 0.3).astype(np.uint8))
    for data, run in (("t.csv", "table"), ("bits.npz", "bits")):
        words = ["train", "--data", str(folder / data), "--run_dir", str(folder / run)]
        assert main([*words, *QUICK, *FEW, *QUIET]) == 0
    return folder


@pytest.mark.filterwarnings("ignore:impute. k-hat")
def test_gaps_are_filled_in_the_tables_units(folder, capsys):
    words = ["impute", str(folder / "table"), "--num_samples", "3", "--num_proposals", "100", *QUIET]
    assert main([*words, "--out", str(folder / "filled.csv")]) == 0
    frame = pd.read_csv(folder / "filled.csv")
    assert sorted(frame["imputation"].unique()) == [0, 1, 2]
    assert set(frame["entry"]) <= {"size", "kind"}
    assert set(frame.loc[frame["entry"] == "kind", "value"]) <= {"large", "small"}
    assert "imputed" in capsys.readouterr().out
    assert main([*words, "--out", str(folder / "filled.npz")]) == 0
    with np.load(folder / "filled.npz") as arrays:
        assert arrays["x"].shape[0] == 3
        assert np.isfinite(arrays["x"]).all()
        assert arrays["x_mean"].shape == arrays["x"].shape[1:]


def test_another_file_comes_in_the_units_of_the_run(folder):
    """Its own standardisation would hide that every row is far off."""
    far = pd.read_csv(folder / "t.csv")
    far["size"] += 1000
    far.to_csv(folder / "far.csv", index=False)
    scores = {}
    for name in ("t", "far"):
        words = ["score", str(folder / "table"), "--data", str(folder / f"{name}.csv"), *QUIET]
        out = str(folder / f"{name}-scores.csv")
        assert main([*words, "--num_particles", "50", "--part", "train", "--out", out]) == 0
        scores[name] = pd.read_csv(out)["score"]
    assert scores["far"].median() > scores["t"].median() + 100


def test_scores_are_those_of_python(folder, capsys):
    out = str(folder / "scores.csv")
    assert main(["score", str(folder / "bits"), "--num_particles", "50", "--out", out, *QUIET]) == 0
    pair = pv.load(folder / "bits")
    split = pv.data.load(str(folder / "bits.npz")).test
    found = evaluate.anomaly(pair, split, num_particles=50)
    assert pd.read_csv(out)["score"].to_numpy() == pytest.approx(found.score.numpy())
    capsys.readouterr()
    assert main(["score", str(folder / "bits"), "--method", "waic", "--out", out]) == 2
    assert "ask for it in Python" in capsys.readouterr().err
    typical = ["score", str(folder / "bits"), "--method", "typicality", "--num_particles", "20"]
    assert main([*typical, "--out", out, *QUIET]) == 0


def test_a_run_is_judged_by_annealing(folder, capsys):
    words = ["evaluate", str(folder / "bits"), "--evaluate.method", "ais", "--evaluate.num_particles", "4"]
    assert main([*words, "--evaluate.num_temperatures", "5", "--report.num_data", "0", *QUIET]) == 0
    assert "annealed, T = 5; evaluate.sandwich tells how far below" in capsys.readouterr().out
    assert main([*words, "--evaluate.num_temperatures", "0"]) == 2
    assert "--evaluate.num_temperatures" in capsys.readouterr().err


def test_data_are_edited_along_a_vector_and_up_a_score(folder, capsys, monkeypatch):
    """As Python does it, with what the words say of labels, columns and functions."""
    run = str(folder / "labels")
    train = ["train", "--data", "digits", "--load.labels", "false", "--run_dir", run]
    assert main([*train, *QUICK, *FEW, *QUIET]) == 0
    capsys.readouterr()
    out = folder / "edited.npz"
    words = ["edit", run, "--toward", "8", "--away", "3", "--num", "4", "--strength", "[0, 1]"]
    assert main([*words, "--out", str(out)]) == 0
    assert "standard deviations apart" in capsys.readouterr().out
    pair, test = pv.load(run), pv.data.load("digits").test
    eights, threes = (test[(test.labels == label).nonzero().flatten()].tensors()[0] for label in (8, 3))
    known = pv.attribute(pair, eights, threes).apply(pair, threes[:4], (0, 1))
    with np.load(out) as arrays:
        assert torch.equal(torch.from_numpy(arrays["start"]), threes[:4])
        assert torch.allclose(torch.from_numpy(arrays["z"]), known.latents["z"])
        assert torch.allclose(torch.from_numpy(arrays["mean"]).flatten(), known.mean.flatten())
    assert main(words) == 0
    assert (folder / "labels" / "edited.png").read_bytes().startswith(b"\x89PNG")

    monkeypatch.chdir(folder)
    (folder / "ink_of_mine.py").write_text("def ink(mean):\n    return mean.flatten(1).sum(1)\n")
    monkeypatch.syspath_prepend(str(folder))
    assert main(["edit", run, "--ascend", "ink_of_mine.ink", "--steps", "20", "--out", "ink.npz"]) == 0
    with np.load("ink.npz") as arrays:
        x, like = (test.take(count).tensors() for count in (8, 1000))
        known = pv.optimise(pair, lambda mean: mean.flatten(1).sum(1), x, like=like, steps=20).draws
        assert torch.allclose(torch.from_numpy(arrays["mean"][0]), known.mean)
    (folder / "edit.yaml").write_text("ascend: ink_of_mine.ink\n")
    assert main(["edit", run, "--config", "edit.yaml", "--out", "ink.npz"]) == 2  # a file needs --trust
    assert "--trust ink_of_mine" in capsys.readouterr().err


def test_a_column_goes_up_in_the_tables_units(folder):
    words = ["edit", str(folder / "table"), "--part", "train", "--ascend", "size", "--prior_weight", "0"]
    means = []
    for steps in ("1", "100"):
        assert main([*words, "--steps", steps, "--out", str(folder / "larger.csv")]) == 0
        larger = pd.read_csv(folder / "larger.csv")
        assert {"size", "kind", "n"} <= set(larger.columns)
        assert larger["size"].between(30, 70).all()
        means.append(larger["size"].mean())
    assert means[1] > means[0] + 0.05


def test_calibration_and_both_sides_are_printed_and_drawn(folder, capsys):
    words = ["calibrate", str(folder / "bits"), "--num_simulations", "40", "--num_draws", "20", *QUIET]
    sides = ["--sandwich", "3", "--num_temperatures", "5", "--out", str(folder / "c.png")]
    assert main([*words, *sides]) == 0
    out = capsys.readouterr().out
    assert "uniform ranks" in out
    assert "gap" in out
    assert (folder / "c.png").read_bytes().startswith(b"\x89PNG")


@pytest.mark.skipif(importlib.util.find_spec("constriction") is None, reason="needs constriction")
def test_data_come_back_bit_for_bit(folder, capsys):
    run, file = str(folder / "bits"), str(folder / "test.bits")
    assert main(["compress", run, "--out", file, *QUIET]) == 0
    assert "bits" in capsys.readouterr().out
    assert main(["compress", run, "--decompress", file, "--out", str(folder / "back.npz"), *QUIET]) == 0
    (x,) = pv.data.load(str(folder / "bits.npz")).test.tensors()
    with np.load(folder / "back.npz") as arrays:
        assert torch.equal(torch.from_numpy(arrays["x"]).to(x), x)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["impute", "bits", "--out", "a.csv", *QUIET], "nothing is missing"),
        (["impute", "bits", "--out", "a.txt"], "ends in .csv or .npz"),
        (["score", "bits", "--out", "a.npz"], "ends in .csv"),
        (["calibrate", "bits", "--out", "a.csv"], "ends in .png"),
        (["edit", "bits", "--out", "a.npz"], "either --toward LABEL, or --ascend"),
        (["edit", "bits", "--toward", "1", "--out", "a.npz"], "no labels|have none"),
        (["edit", "bits", "--ascend", "x", "--out", "a.npz"], "no table"),
        (["edit", "bits", "--ascend", "no_such.score", "--out", "a.npz"], "No module named 'no_such'"),
        (["edit", "table", "--ascend", "kind"], "no order"),
        (["edit", "table", "--ascend", "sise"], "the columns are size, kind, n"),
        (["edit", "table", "--ascend", "size", "--out", "a.png"], "no images"),
        (["compress", "bits", "--decompress", "a.bits", "--out", "a.csv"], "ends in .npz"),
        (["compress", "table", "--out", "a.bits", *QUIET], "size|discrete|continuous"),
    ],
)
def test_mistakes_are_one_message(folder, monkeypatch, capsys, words, message):
    monkeypatch.chdir(folder)
    assert main(words) in (1, 2)
    err = capsys.readouterr().err
    assert re.search(message, err), err
    assert "Traceback" not in err
