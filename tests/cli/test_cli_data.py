"""Tables, labels and nets at the command line."""

from __future__ import annotations

import io
import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
import yaml

import ppl_vae as pv
from ppl_vae import data, estimators, guides, likelihoods, models, nets, queries
from ppl_vae.cli import main, report
from ppl_vae.cli.command_train import parser
from ppl_vae.cli.errors import UsageError

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


@pytest.fixture
def blobs(tmp_path, monkeypatch):
    """Three clouds far apart with their numbers as labels, as a file in the folder of now."""
    monkeypatch.chdir(tmp_path)
    generator = np.random.default_rng(0)
    y = np.arange(300) % 3
    x = 3 * np.eye(3)[y] + 0.5 * generator.normal(size=(300, 3))
    np.savez("blobs.npz", x=x.astype(np.float32), y=y)
    return x


def arrays(path):
    with np.load(path) as file:
        return dict(file)


def test_few_labels_train_a_pair_that_is_judged_as_a_classifier(blobs, capsys):
    words = ["train", "--data", "blobs.npz", "--labels", "9", *QUICK, *FEW, "--hidden", "[16]"]
    words[words.index("--epochs") + 1] = "30"
    assert main([*words, "--learning_rate", "0.01", "--run_dir", "run"]) == 0
    shown = capsys.readouterr().out
    assert "accuracy" in shown
    assert "log p(x, y)" in shown
    numbers = json.loads(Path("run/summary.json").read_text())
    assert numbers["accuracy"] > 0.9
    pair, parts = pv.load("run"), data.load("blobs.npz", labels=9)
    assert isinstance(pair.model, models.SemiSupervisedVAE)
    x, y = parts.test.tensors()
    right = (queries.class_probabilities(pair, x).argmax(-1) == y).double().mean()
    assert numbers["accuracy"] == pytest.approx(float(right))
    command = yaml.safe_load(Path("run/command.yaml").read_text())
    assert command["estimator"]["class_path"].endswith("EnumeratedELBO")
    assert main(["evaluate", "run", *FEW, "--progress", "false"]) == 0
    assert f"{right:.3f}" in capsys.readouterr().out
    # a class of choice, in both spellings
    for name, given in (("one.npz", ["--given", "y=2"]), ("two.npz", ["--inputs.y", "2"])):
        assert main(["sample", "run", "--num", "40", *given, "--out", name]) == 0
    one, two = arrays("one.npz"), arrays("two.npz")
    assert (one["y"] == 2).all()
    assert np.array_equal(one["x"], two["x"])
    means = one["x_mean"].mean(0)
    assert means.argmax() == 2
    assert means[2] > 1.5


def test_labels_of_all_data_train_a_conditional_pair(blobs, capsys):
    assert main(["train", "--data", "blobs.npz", "--labels", *QUICK, *FEW, "--run_dir", "run"]) == 0
    assert isinstance(pv.load("run").model, models.ConditionalVAE)
    assert main(["sample", "run", "--num", "5", "--given=y=1", "--out", "new.npz"]) == 0
    assert arrays("new.npz")["x"].shape == (5, 3)
    assert main(["check", "--data", "blobs.npz", "--labels", "6"]) == 0
    assert "y" in capsys.readouterr().out


def test_labels_and_choices_that_cannot_be_are_said(blobs, capsys):
    linear = ["--model", "LinearGaussian", "--model.latent_dim", "2", "--model.data_dim", "3"]
    cases = {
        "there are 3 classes, so give at least 3": ["--labels", "2"],
        "labelled rows, fewer than 1000": ["--labels", "3000"],
        "leave --load.labels out, or give --guide": ["--labels", "6", *linear],
    }
    for message, words in cases.items():
        assert main(["train", "--data", "blobs.npz", *QUICK, *words]) != 0
        assert message in capsys.readouterr().err, message
    assert main(["sample", "run", "--given", "three"]) != 0
    assert "--given three: write a name and its value, such as --given y=3" in capsys.readouterr().err


def test_a_group_may_be_left_out_where_one_option_alone_is_called_so():
    short = ["--columns.a", "category", "--standardise", "false", "--latent_dim=3", "--num_samples", "4"]
    long = ["--load.columns.a", "category", "--load.standardise", "false", "--pair.latent_dim=3",
            "--report.num_samples", "4"]  # fmt: skip
    assert parser().read(short) == parser().read(long)
    with pytest.raises(UsageError, match="there is no option --lables"):
        parser().read(["--lables", "3"])


@pytest.mark.parametrize("number", [1, 2, 3])
def test_pictures_of_a_table_bear_its_names_and_units(table, number, drawn):
    columns = list(table.columns)[:number]
    table[columns].to_csv("few.csv", index=False)
    words = ["train", "--data", "few.csv", *QUICK, *FEW[:4], "--hidden", "[8]", "--run_dir", "run"]
    assert main(words) == 0
    panels = drawn["samples"].child_axes
    assert [panel.get_title().partition("  (")[0] for panel in panels] == columns
    low, high = panels[0].get_xlim()
    assert 100 < low < high < 250  # centimetres
    again, moved = drawn["reconstructions"], drawn["traversal"]
    if number == 1:
        assert again.get_xlabel() == "height, data"
        assert moved.get_ylabel() == "mean of height"
        assert 100 < moved.get_ylim()[0] < 250
    elif number == 2:
        assert (again.get_xlabel(), again.get_ylabel()) == ("height", "visits")
        assert (moved.get_xlabel(), moved.get_ylabel()) == ("height", "mean of visits")
        assert 100 < again.get_xlim()[0] < 250
    else:
        (above,) = again.child_axes
        assert [tick.get_text() for tick in above.get_xticklabels()] == [*columns, *columns]
        assert [tick.get_text() for tick in moved.get_xticklabels()] == columns
        # each column by its own mean and deviation: none drowns the others
        assert np.nanmax(np.abs(again.images[0].get_array()[:, :3])) < 8
        assert again.images[0].norm.vmax < 8


@pytest.fixture
def drawn(monkeypatch):
    """The pictures of a report by name, drawn and not written."""
    found = {}

    def keep(axes, path):
        axes.figure.savefig(io.BytesIO(), dpi=20)
        found[path.stem] = axes

    monkeypatch.setattr(report, "save_figure", keep)
    return found
