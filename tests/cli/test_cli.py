from __future__ import annotations

import inspect
import json
import os
import sys
import textwrap
import warnings

import numpy as np
import pandas as pd
import pytest

from ppl_vae import data, estimators, evaluate, fit, guides, likelihoods, models
from ppl_vae.cli import COMMANDS, main
from ppl_vae.cli.command_train import COMMAND, parser
from ppl_vae.runs import CONFIG, METRICS, WEIGHTS
from ppl_vae.train import step

QUICK = [
    *(
        "--data",
        "bits.npz",
        "--epochs",
        "2",
        "--batch_size",
        "20",
        "--pair.latent_dim",
        "3",
        "--progress",
        "false",
    ),
    *("--evaluate.num_particles", "30", "--report.num_data", "3", "--report.num_samples", "4"),
]
BARE = [*QUICK, "--report.figures", "false", "--report.num_data", "0"]

OWN = """
    import pyro
    import pyro.distributions as dist
    import torch
    from torch import Tensor, nn


    class MyModel(nn.Module):
        def __init__(self, latent_dim: int, width: int = 8) -> None:
            super().__init__()
            self.latent_dim, self.width = latent_dim, width
            self.net = nn.Sequential(nn.Linear(latent_dim, width), nn.Tanh(), nn.Linear(width, 64))

        def forward(self, x: Tensor) -> None:
            with pyro.plate("data", len(x), dim=-1):
                z = pyro.sample("z", dist.Normal(x.new_zeros(self.latent_dim), 1.0).to_event(1))
                logits = self.net(z).unflatten(-1, (1, 8, 8))
                pyro.sample("x", dist.Bernoulli(logits=logits, validate_args=False).to_event(3), obs=x)


    def tenth(fraction: float) -> float:
        return 0.1
"""


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A folder with data, a file of classes and a trained run."""
    home = tmp_path_factory.mktemp("cli")
    bits = np.random.default_rng(0).integers(0, 2, (80, 8, 8), dtype=np.uint8)
    np.savez(home / "bits.npz", x=bits, y=np.arange(80) % 3)
    (home / "my_programs.py").write_text(textwrap.dedent(OWN))
    before = os.getcwd()
    os.chdir(home)
    try:
        assert main(["train", *QUICK, "--run_dir", "run"]) == 0
    finally:
        os.chdir(before)
    return home


@pytest.fixture(autouse=True)
def _in_folder(folder, monkeypatch):
    monkeypatch.chdir(folder)
    monkeypatch.setattr(sys, "path", [*sys.path])


def test_train_leaves_everything(folder):
    run = folder / "run"
    for name in (CONFIG, WEIGHTS, METRICS, COMMAND, "summary.txt", "inference_data.nc"):
        assert (run / name).stat().st_size > 0
    pictures = {path.stem for path in (run / "figures").glob("*.png")}
    assert pictures == {
        *(
            "training_curves",
            "calibration",
            "predictive_check",
            "k_hat",
            "latent_map",
            "reconstructions",
            "samples",
            "interpolation",
            "traversal",
        )
    }
    summary = json.loads((run / "summary.json").read_text())
    assert summary["num_data"] == 16
    assert summary["elbo"] == pytest.approx(summary["reconstruction"] - summary["kl"]["z"])
    assert summary["log_likelihood"] >= summary["elbo"]
    assert not list(run.glob("**/.*.tmp-*"))


def test_train_without_a_folder_dates_it(folder, capsys):
    assert main(["train", *BARE]) == 0
    out = capsys.readouterr().out
    (run,) = (folder / "runs").glob("bits-*")
    assert f"runs/{run.name}/" in out
    assert "-log p(x)" in out
    assert not (run / "figures").exists()


def test_a_config_file_repeats_a_run(folder):
    assert main(["train", "--config", f"run/{COMMAND}", "--run_dir", "again"]) == 0
    first, again = (pd.read_csv(folder / name / METRICS).drop(columns="seconds") for name in ("run", "again"))
    pd.testing.assert_frame_equal(first, again)


def test_resume_goes_on(folder, capsys):
    words = ["train", *BARE, "--run_dir", "resumed"]
    assert main(words) == 0
    assert main([*words, "--epochs", "3", "--resume"]) == 0
    assert list(pd.read_csv(folder / "resumed" / METRICS)["epoch"]) == [1, 2, 3]
    assert main([*words, "--epochs", "3"]) == 1
    assert "already holds a run" in capsys.readouterr().err


def test_evaluate_repeats_the_summary(folder, capsys):
    words = ["evaluate", "run", "--progress", "false", "--evaluate.num_particles", "30"]
    assert main([*words, "--out", "judged", "--report.num_data", "0"]) == 0
    assert "-log p(x)" in capsys.readouterr().out
    first, again = (json.loads((folder / name / "summary.json").read_text()) for name in ("run", "judged"))
    assert first == again
    assert main([*words, "--data", "bits.npz", "--part", "train"]) == 0
    assert "train data of bits: 56 data" in capsys.readouterr().out


def test_a_null_among_the_options_is_kept(folder, tmp_path, capsys):
    """Grey values by `--load.binarise null` were binarised when the run was judged or repeated."""
    words = [
        "train",
        *BARE,
        "--data",
        "digits",
        "--load.binarise",
        "null",
        "--epochs",
        "1",
        "--evaluate.num_particles",
        "30",
    ]
    assert main([*words, "--run_dir", str(tmp_path / "grey")]) == 0
    again = ["--config", str(tmp_path / "grey" / COMMAND), "--run_dir", str(tmp_path / "again")]
    assert main(["train", *again]) == 0
    judge = ["evaluate", str(tmp_path / "grey"), "--progress", "false", "--evaluate.num_particles", "30"]
    assert (
        main(
            [*judge, "--out", str(tmp_path / "judged"), "--report.figures", "false", "--report.num_data", "0"]
        )
        == 0
    )
    found = [
        json.loads((tmp_path / name / "summary.json").read_text()) for name in ("grey", "again", "judged")
    ]
    assert found[0] == found[1] == found[2]


def test_a_run_is_not_judged_on_what_its_file_has_become(folder, tmp_path, capsys):
    np.save(tmp_path / "rows.npy", np.random.default_rng(0).normal(size=(60, 5)).astype(np.float32))
    words = [
        "train",
        *BARE,
        "--data",
        str(tmp_path / "rows.npy"),
        "--epochs",
        "1",
        "--run_dir",
        str(tmp_path / "run"),
    ]
    assert main(words) == 0
    np.save(tmp_path / "rows.npy", np.random.default_rng(1).normal(size=(60, 5)).astype(np.float32))
    capsys.readouterr()
    judge = ["evaluate", str(tmp_path / "run"), "--progress", "false", "--evaluate.num_particles", "30"]
    assert main(judge) == 1
    assert "no longer what the run was trained on" in capsys.readouterr().err
    assert main([*judge, "--data", str(tmp_path / "rows.npy")]) == 0


def test_sample_gives_pictures_and_numbers(folder):
    assert main(["sample", "run", "--num", "5"]) == 0
    assert (folder / "run/samples.png").read_bytes()[:4] == b"\x89PNG"
    assert main(["sample", "run", "--num", "5", "--out", "samples.npz"]) == 0
    with np.load(folder / "samples.npz") as arrays:
        assert {name: arrays[name].shape for name in arrays} == {
            "z": (5, 3),
            "x": (5, 1, 8, 8),
            "x_mean": (5, 1, 8, 8),
        }
        assert set(np.unique(arrays["x"])) <= {0.0, 1.0}


def test_own_classes_by_class_path(folder, capsys):
    own = ["--model", "my_programs.MyModel", "--model.latent_dim", "4", "--model.width", "5"]
    assert main(["check", "--data", "bits.npz", *own]) == 0
    assert "latent    z  [4]" in capsys.readouterr().out
    assert main(["train", *BARE, *own, "--schedule", "my_programs.tenth", "--run_dir", "own"]) == 0
    assert set(pd.read_csv(folder / "own" / METRICS)["learning_rate"]) == {1e-4}
    capsys.readouterr()
    assert main(["sample", "own"]) == 1
    assert "trust" in capsys.readouterr().err
    assert main(["sample", "own", "--num", "2", "--trust", "[my_programs]"]) == 0


@pytest.mark.parametrize(
    ("words", "kept"),
    [
        (["--estimator", "IWAE", "--estimator.num_particles", "3"], "IWAE(num_particles=3)"),
        (["--estimator", "pyro.infer.Trace_ELBO"], "pyro.infer.trace_elbo.Trace_ELBO"),
        (["--estimator", "Renyi", "--estimator.alpha", "0.5"], "Renyi(alpha=0.5"),
        (["--kl", "LinearWarmup", "--kl.epochs", "2"], "LinearWarmup(epochs=2.0"),
        (["--optimizer", "torch.optim.RMSprop"], "RMSprop"),
        (["--pair.net", "conv"], "ppl_vae.nets.conv.ConvDecoder"),
        (["--pair.likelihood", "Laplace", "--pair.likelihood.scale", "0.5"], "likelihoods.laplace.Laplace"),
        (["--pair.likelihood", "Gaussian", "--pair.likelihood.scale", "0.5"], "scale: 0.5"),
        (["--guide", "FullRank", "--guide.encoder", "MLPEncoder", "--guide.encoder.shape", "[1, 8, 8]",
          "--guide.encoder.latent_dim", "7"], "latent_dim: 7"),
    ],
    ids=lambda value: value[1] if isinstance(value, list) else "",
)  # fmt: skip
def test_options_reach_the_run(folder, tmp_path, words, kept):
    assert (
        main(
            [
                "train",
                *BARE,
                "--epochs",
                "1" if "--kl" not in words else "2",
                *words,
                "--run_dir",
                str(tmp_path),
            ]
        )
        == 0
    )
    assert kept in (tmp_path / CONFIG).read_text()


def test_vectors_get_a_gaussian_and_pictures_of_vectors(folder, tmp_path):
    np.save(folder / "rows.npy", np.random.default_rng(0).normal(size=(60, 5)).astype(np.float32))
    assert main(["train", *QUICK, "--data", "rows.npy", "--run_dir", str(tmp_path)]) == 0
    assert "Gaussian" in (tmp_path / CONFIG).read_text()
    assert {path.stem for path in (tmp_path / "figures").glob("*.png")} == {
        "training_curves",
        "calibration",
        "predictive_check",
        "k_hat",
        "latent_map",
        "reconstructions",
        "samples",
        "traversal",
    }


def test_the_default_pair_starts_from_the_mean(folder, tmp_path, monkeypatch):
    outcomes = {}
    for centre in ("true", "false"):
        words = ["--learning_rate", "1e-12", "--pair.centre", centre, "--run_dir", str(tmp_path / centre)]
        dark = (np.random.default_rng(0).random((80, 8, 8)) < 0.1).astype(np.uint8)
        np.save(tmp_path / "dark.npy", dark)
        assert main(["train", *BARE, "--data", str(tmp_path / "dark.npy"), *words]) == 0
        outcomes[centre] = pd.read_csv(tmp_path / centre / METRICS)["train_elbo"].iloc[-1]
    assert outcomes["true"] > outcomes["false"] + 5


def test_interrupting_keeps_what_was_trained(folder, tmp_path, capsys, monkeypatch):
    calls, proceed = [], step.Step.__call__

    def interrupted(self, *batch):
        calls.append(batch)
        if len(calls) == 5:
            raise KeyboardInterrupt
        return proceed(self, *batch)

    monkeypatch.setattr(step.Step, "__call__", interrupted)
    assert main(["train", *BARE, "--run_dir", str(tmp_path)]) == 130
    err = capsys.readouterr().err
    assert "the weights so far are in" in err
    assert "Traceback" not in err
    assert (tmp_path / WEIGHTS).exists()
    assert main(["sample", str(tmp_path), "--num", "2"]) == 0


def test_list_names_all_there_is(capsys):
    assert main(["list"]) == 0
    out = capsys.readouterr().out
    for package in (models, guides, likelihoods, estimators):
        concrete = [name for name in package.__all__ if not inspect.isabstract(getattr(package, name))]
        classes = [
            name
            for name in concrete
            if inspect.isclass(getattr(package, name)) and name not in ("Facts", "Likelihood")
        ]
        assert classes
        for name in classes:
            assert f"  {name} " in out
    for name in data.NAMES:
        assert f"  {name} " in out
    assert "Facts" not in out
    assert "  Likelihood " not in out
    assert main(["list", "schedules"]) == 0
    assert capsys.readouterr().out.splitlines()[:2] == ["schedules", "  constant"]


def test_every_option_of_the_python_api_is_there():
    known = {name for action in parser()._actions for name in action.option_strings}
    sources = {
        "": (fit, {"pair", "fabric"}),
        "load.": (data.load, {"name_or_path"}),
        "evaluate.": (evaluate.summary, {"pair", "data", "seed", "progress"}),
    }
    for prefix, (function, given) in sources.items():
        for name in set(inspect.signature(function).parameters) - given:
            assert f"--{prefix}{name}" in known


@pytest.mark.parametrize("command", [command for command in COMMANDS if command != "list"])
def test_help_is_readable(command, capsys):
    assert main([command, "--help"]) == 0
    out = capsys.readouterr().out
    assert out.startswith(f"usage: ppl-vae {command}")
    assert "example" in out
    assert "known subclasses" not in out
    assert len(out.splitlines()) < 255


def test_the_short_help_and_the_version(capsys):
    assert main(["--help"]) == 0
    out = capsys.readouterr().out
    assert all(f"\n  {command} " in out for command in COMMANDS)
    assert out.count("  ppl-vae ") == 2
    assert len(out.splitlines()) < 34
    assert main([]) == 2
    capsys.readouterr()
    assert main(["--version"]) == 0
    assert capsys.readouterr().out.startswith("ppl_vae ")


def test_debug_shows_the_traceback(capsys):
    assert main(["evaluate", "nowhere", "--debug"]) == 1
    assert "Traceback" in capsys.readouterr().err


def test_a_warning_is_one_line(folder, tmp_path, capsys):
    words = [
        "train",
        *BARE,
        "--epochs",
        "1",
        "--kl",
        "LinearWarmup",
        "--kl.epochs",
        "9",
        "--run_dir",
        str(tmp_path),
    ]
    with warnings.catch_warnings():
        warnings.filterwarnings("default", category=UserWarning)
        assert main(words) == 0
    err = capsys.readouterr().err
    assert "ppl-vae: warning: training ends after 1 epochs" in err
    assert ".py:" not in err
