"""Before the first step it is known whether a run's folder will be enough to load its pair."""

from __future__ import annotations

import os
import sys
import textwrap
import warnings
from pathlib import Path

import numpy as np
import pytest
import torch

import ppl_vae as pv
from ppl_vae import data, estimators
from ppl_vae.cli import main
from ppl_vae.runs.loading import load, pair_config, why_not_rebuildable
from ppl_vae.train import step
from tests.runs.programs import QUICK, Bent, Doubling, make_data, make_pair, train


def other_name() -> pv.Pair:
    pair = pv.Pair(Bent(), make_pair().guide)
    del pair.model.width
    return pair


BROKEN = {
    "an argument under another name": (other_name, r"no attribute 'width'.*self\.width = width"),
    "another value": (
        lambda: pv.Pair(Doubling(1.5), make_pair().guide),
        "computes something else .*model's x has the log-density",
    ),
}


@pytest.mark.parametrize("case", list(BROKEN))
def test_fit_warns_before_the_first_step_and_says_both_ways_out(case, tmp_path, monkeypatch):
    make, why = BROKEN[case]

    def no_step(*arguments):
        raise AssertionError("a step")

    monkeypatch.setattr(step.Step, "on", no_step)
    message = (
        rf"cannot be rebuilt from a run's folder: .*{why}.*Either store .* or keep .*pv\.load\(path, pair="
    )
    with warnings.catch_warnings():
        warnings.filterwarnings("error", "this pair cannot be rebuilt")
        with pytest.raises(UserWarning, match=message):
            train(tmp_path / "run", make())
    monkeypatch.undo()
    with pytest.warns(UserWarning, match=message):
        run = train(tmp_path / "run", make())
    given = load(tmp_path / "run", pair=make())
    assert all(torch.equal(value, given.state_dict()[key]) for key, value in run.pair.state_dict().items())
    pv.fit(make(), estimators.ELBO(), make_data(), **QUICK)  # without a folder nothing is to be loaded


def test_a_pair_that_can_be_rebuilt_gives_no_word():
    for pair in (make_pair(), pv.Pair(Bent(4), make_pair().guide)):
        assert why_not_rebuildable(pair_config(pair, (make_data(rows=4),))) is None
    before = torch.get_rng_state()
    pair_config(make_pair(), (make_data(rows=4),))
    assert torch.equal(torch.get_rng_state(), before)


OWN = """
    import pyro
    import pyro.distributions as dist
    from torch import Tensor, nn


    class Forgets(nn.Module):
        def __init__(self, latent_dim: int, width: int = 8) -> None:
            super().__init__()
            self.latent_dim = latent_dim
            self.net = nn.Sequential(nn.Linear(latent_dim, width), nn.Tanh(), nn.Linear(width, 16))

        def forward(self, x: Tensor) -> None:
            with pyro.plate("data", len(x), dim=-1):
                z = pyro.sample("z", dist.Normal(x.new_zeros(self.latent_dim), 1.0).to_event(1))
                logits = self.net(z).unflatten(-1, (1, 4, 4))
                pyro.sample("x", dist.Bernoulli(logits=logits, validate_args=False).to_event(3), obs=x)
"""
COMMAND = [
    "--data",
    "bits.npz",
    "--epochs",
    "2",
    "--batch_size",
    "20",
    "--pair.latent_dim",
    "2",
    "--progress",
    "false",
]
BARE = [*COMMAND, "--evaluate.num_particles", "20", "--report.figures", "false", "--report.num_data", "0"]


@pytest.fixture
def home(tmp_path, monkeypatch):
    bits = np.random.default_rng(0).integers(0, 2, (60, 4, 4), dtype=np.uint8)
    np.savez(tmp_path / "bits.npz", x=bits)
    (tmp_path / "forgetful_file.py").write_text(textwrap.dedent(OWN))
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [*sys.path])
    return tmp_path


def test_the_command_line_refuses_before_the_first_step(home, capsys):
    pair = ["--model", "forgetful_file.Forgets", "--model.latent_dim", "2"]
    assert main(["train", *BARE, *pair, "--run_dir", "run"]) == 1
    told = capsys.readouterr().err
    assert "no attribute 'width'" in told
    assert "Either store each argument" in told
    assert not (home / "run").exists()
    assert main(["check", "--data", "bits.npz", "--pair.latent_dim", "2", *pair]) == 1
    assert "no attribute 'width'" in capsys.readouterr().err


class Killed(BaseException):
    """Nothing is caught, and no `finally` of the command line's may write."""


def test_a_killed_run_keeps_its_command(home, monkeypatch, capsys):
    def killed(*arguments):
        run = Path("run")
        assert (run / "command.yaml").exists(), "written before the first step"
        os.rename("run", "killed")  # what a kill leaves is what is there now
        raise Killed

    monkeypatch.setattr(step.Step, "on", killed)
    with pytest.raises(Killed):
        main(["train", *BARE, "--run_dir", "run"])
    monkeypatch.undo()
    monkeypatch.chdir(home)
    assert main(["train", "--config", "killed/command.yaml", "--run_dir", "again"]) == 0
    capsys.readouterr()
    assert main(["evaluate", "again", "--progress", "false", "--evaluate.num_particles", "20"]) == 0
    assert "test data of bits" in capsys.readouterr().out


def test_a_run_of_python_is_evaluated_where_its_data_have_a_name(home, capsys):
    digits = data.load("digits")

    def pair():
        from ppl_vae import guides, likelihoods, models, nets

        decoder = nets.MLPDecoder(2, (1, 8, 8), (4,))
        return pv.Pair(
            models.VAE(likelihoods.Bernoulli(), decoder, 2),
            guides.MeanField(nets.MLPEncoder((1, 8, 8), 2, (4,))),
        )

    options = {**QUICK, "epochs": 1, "batch_size": 500}
    pv.fit(pair(), estimators.ELBO(), digits, run_dir="python", **options)
    words = ["--progress", "false", "--evaluate.num_particles", "20"]
    assert main(["evaluate", "python", *words]) == 0
    assert "test data of digits" in capsys.readouterr().out
    pv.fit(pair(), estimators.ELBO(), data.load("digits", seed=3), run_dir="seeded", **options)
    assert main(["evaluate", "seeded", *words]) == 2
    told = capsys.readouterr().err
    assert "was trained in Python, by pv.fit, on DataSet('digits'" in told
    assert "its options differed" in told
    assert main(["evaluate", "seeded", "--data", "digits", "--load.seed", "3", *words]) == 0


@pytest.mark.parametrize("command", ["train", "compare"])
def test_an_empty_folder_name_is_refused(command, home, capsys):
    words = BARE if command == "train" else ["--data", "bits.npz", "--epochs", "1"]
    assert main([command, *words, "--run_dir", ""]) != 0
    assert "a run's folder cannot be ''" in capsys.readouterr().err
    assert sorted(path.name for path in home.iterdir() if path.is_file()) == ["bits.npz", "forgetful_file.py"]


def test_a_damaged_command_is_not_repeated(home, capsys):
    assert main(["train", *BARE, "--run_dir", "run"]) == 0
    path = home / "run" / "command.yaml"
    path.write_text(path.read_text().replace("epochs: 2", "epochs: 3", 1))
    assert main(["train", "--config", str(path), "--run_dir", "again"]) != 0
    assert "checksum" in capsys.readouterr().err
    assert main(["evaluate", "run"]) != 0
    assert "checksum" in capsys.readouterr().err
