"""The command line refuses every mistake before the first step, in one message and without a traceback."""

from __future__ import annotations

import numpy as np
import pytest
import torch

import ppl_vae as pv
from ppl_vae import data, estimators, guides, models, nets
from ppl_vae.cli import command_train, main


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    home = tmp_path_factory.mktemp("checks")
    np.save(home / "rows.npy", np.random.default_rng(0).normal(size=(60, 4)).astype(np.float32))
    np.savez(home / "one.npz", train=np.ones((30, 4)), valid=np.ones((3, 4)), test=np.ones((1, 4)))
    (home / "file").write_text("a file")
    (home / "latin.yaml").write_bytes("data: caf\xe9.npy\n".encode("latin-1"))
    (home / "list.yaml").write_text("- data\n")
    pair = pv.Pair(models.LinearGaussian(2, 4), guides.MeanField(nets.MLPEncoder((4,), 2, hidden=(4,))))
    pv.fit(pair, estimators.ELBO(), data.load(home / "rows.npy"), epochs=1, progress=False,
           run_dir=home / "run", device="cpu")  # fmt: skip
    return home


@pytest.fixture(autouse=True)
def _in_folder(folder, monkeypatch):
    monkeypatch.chdir(folder)
    torch.set_num_threads(1)


@pytest.mark.parametrize(
    ("words", "says"),
    [
        ("--evaluate.num_particles 0", "--evaluate.num_particles must be a positive whole number, got 0"),
        ("--evaluate.batch_size 0", "--evaluate.batch_size must be"),
        ("--evaluate.chunk -1", "--evaluate.chunk must be"),
        ("--evaluate.threshold -0.1", "--evaluate.threshold must be"),
        ("--evaluate.threshold nan", "--evaluate.threshold"),
        ("--evaluate.capture maybe", "--evaluate.capture"),
        ("--report.num_samples 0", "--report.num_samples must be"),
        ("--report.num_data -1", "--report.num_data must be a whole number >= 0"),
        ("--seed -1", "seed"),
        ("--run_dir file", "file is a file"),
        ("--run_dir file/run", "file is a file"),
        ("--data one.npz", "takes two"),
        ("--kl LinearWarmup --kl.epochs -3", "a positive number of epochs, got -3"),
        ("--kl LinearWarmup --kl.epochs nan", "--kl nan"),
        ("--kl -0.5", "a KL weight must be a number >= 0"),
        ("--patience 1.5", "--patience"),
        ("--patience 0", "patience must be a positive whole number or None, got 0"),
        ("--epochs true", "--epochs"),
        ("--epochs 0", "epochs must be a positive whole number"),
        ("--device cuda:x", "device must be"),
        ("--loggers [nolog]", "unknown loggers"),
        ("--loggers tensorboard,wandb", "loggers"),
        ("--optimizer torch.optim.LBFGS", "LBFGS"),
        ("--optimizer torch.optim.Rprop --weight_decay 0.3", "no argument 'weight_decay'"),
        ("--optimizer os.getcwd", "no argument 'lr'"),
        ("--schedule os.getcwd", "no function of one number"),
        ("--matmul_precision bf16", "captured steps alone"),
        ("--load.root .", "leave root out"),
        ("--load.memory_limit -1", "memory_limit"),
        ("--pair.latent_dim -2", "latent_dim"),
        ("--learning_rate nan", "--learning_rate: Expected a float"),
        ("--learning_rate .inf", "learning_rate"),
        ("--config latin.yaml", "is not UTF-8"),
        ("--config list.yaml", "holds no options"),
        ("--config .", "--config"),
        ("--config", "--config"),
        ("--trust", "--trust needs"),
    ],
)
def test_before_the_first_step(words, says, folder, capsys, monkeypatch):
    monkeypatch.setattr("ppl_vae.train.step.Step.__call__", lambda *_: pytest.fail("a step was taken"))
    monkeypatch.setattr("ppl_vae.train.step.Step.on", lambda *_: pytest.fail("a step was taken"))
    given = ["--data", "rows.npy"] if "--data" not in words else []
    place = ["--run_dir", "new"] if "--run_dir" not in words else []
    assert main(["train", *given, *place, "--epochs", "1", "--progress", "false", *words.split()]) in (1, 2)
    err = capsys.readouterr().err
    assert says in err
    assert "Traceback" not in err
    assert "is a bug" not in err
    assert not (folder / "new").exists()


@pytest.mark.parametrize(
    ("words", "says"),
    [
        ("evaluate run --data rows.npy --evaluate.num_particles 0", "--evaluate.num_particles"),
        ("evaluate run --data rows.npy --out file", "file is a file"),
        ("evaluate run --data rows.npy --report.num_samples 0 --out judged", "--report.num_samples"),
        ("evaluate run --data one.npz", "takes two"),
        ("sample run --num -1", "n must be"),
        ("sample run --seed -1", "seed"),
        ("compare --data rows.npy --epochs 1 --judge_particles 0 --run_dir compared", "judge_particles"),
        ("compare --data rows.npy --epochs 1 --fit.patience 0 --run_dir compared", "patience"),
        ("compare --data rows.npy --epochs 0 --run_dir compared", "epochs"),
    ],
)
def test_by_the_other_commands(words, says, capsys, monkeypatch):
    monkeypatch.setattr("ppl_vae.train.step.Step.__call__", lambda *_: pytest.fail("a step was taken"))
    monkeypatch.setattr("ppl_vae.train.step.Step.on", lambda *_: pytest.fail("a step was taken"))
    assert main(words.split()) in (1, 2)
    err = capsys.readouterr().err
    assert says in err
    assert "Traceback" not in err
    assert "is a bug" not in err


def test_advice_is_in_the_words_of_the_command_line(folder, capsys):
    assert main(["train", "--data", "rows.npy", "--epochs", "1", "--run_dir", "run"]) == 1
    err = capsys.readouterr().err
    assert "--resume" in err
    assert "resume=True" not in err
    assert {"--resume", "--run_dir"} <= {
        name for action in command_train.parser()._actions for name in action.option_strings
    }
    assert main(["evaluate", "nowhere"]) == 1
    assert "pv." not in capsys.readouterr().err
