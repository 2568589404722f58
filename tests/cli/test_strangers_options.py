"""A stranger's file of options: nothing that it names is imported or called unless the user trusts it."""

from __future__ import annotations

import os
import shutil
import sys
import textwrap

import numpy as np
import pytest
import yaml

from ppl_vae.cli import main
from ppl_vae.cli.command_train import COMMAND

CANARY = """
    from pathlib import Path

    from torch import nn

    Path(__file__).with_name("sang").touch()


    class Model(nn.Module):
        def __init__(self, latent_dim: int = 2) -> None:
            super().__init__()
            Path(__file__).with_name("built").touch()
            raise ValueError("the canary was built")


    def rate(fraction: float) -> float:
        return 1.0
"""

PARTS = """
    from collections.abc import Callable
    from typing import Any

    import pyro
    import pyro.distributions as dist
    import torch
    from torch import Tensor, nn


    class Model(nn.Module):
        def __init__(
            self, latent_dim: int = 2, act: Callable[[Tensor], Tensor] = torch.tanh, more: Any = None
        ) -> None:
            super().__init__()
            self.latent_dim, self.act, self.more = latent_dim, act, more
            self.net = nn.Linear(latent_dim, 4)

        def forward(self, x: Tensor) -> None:
            with pyro.plate("data", len(x), dim=-1):
                z = pyro.sample("z", dist.Normal(x.new_zeros(self.latent_dim), 1.0).to_event(1))
                pyro.sample("x", dist.Normal(self.net(z), 1.0).to_event(1), obs=x)
"""


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    home = tmp_path_factory.mktemp("stranger")
    (home / "canary.py").write_text(textwrap.dedent(CANARY))
    (home / "my_parts.py").write_text(textwrap.dedent(PARTS))
    (home / "inner.yaml").write_text("class_path: canary.Model\n")
    (home / "chained.yaml").write_text("model: canary.Model\n")
    np.save(home / "rows.npy", np.random.default_rng(0).normal(size=(60, 4)).astype(np.float32))
    return home


@pytest.fixture(autouse=True)
def _in_folder(folder, monkeypatch):
    monkeypatch.chdir(folder)
    monkeypatch.setattr(sys, "path", [*sys.path, str(folder)])
    monkeypatch.delitem(sys.modules, "canary", raising=False)
    monkeypatch.setattr(os, "system", lambda *_: pytest.fail("a file ran a command"))
    for name in ("sang", "built"):
        (folder / name).unlink(missing_ok=True)
    shutil.rmtree(folder / "ran", ignore_errors=True)


def spec(path, **init_args):
    return {"class_path": path, "init_args": init_args}


LINEAR = spec("torch.nn.Linear", in_features=2, out_features=4)
STRANGE = {
    "a model": {"model": "canary.Model"},
    "a model with arguments": {"model": spec("canary.Model", latent_dim=3)},
    "a guide": {"guide": spec("canary.Model")},
    "a likelihood": {"pair": {"likelihood": "canary.Model"}},
    "a dotted key": {"pair.likelihood": "canary.Model"},
    "an estimator": {"estimator": "canary.Model"},
    "a treatment of the KL term": {"kl": spec("canary.Model")},
    "a treatment by site": {"kl": {"z": spec("canary.Model")}},
    "an optimizer": {"optimizer": "canary.rate"},
    "an optimizer with arguments": {"optimizer": spec("canary.Model")},
    "a schedule": {"schedule": "canary.rate"},
    "an argument of ours": {"model": spec("ppl_vae.models.VAE", decoder=spec("canary.Model"))},
    "deep inside": {"model": spec("torch.nn.Sequential", args=[LINEAR, spec("canary.Model")])},
    "text that is YAML": {"model": "{class_path: canary.Model}"},
    "text that YAML's own reader refuses":
        {"model": "{class_path: canary.Model, init_args: {day: 2001-99-99}}"},
    "such text on two lines": {"model": "class_path: canary.Model\ninit_args: {day: 2001-99-99}"},
    "such text with its dot in code":
        {"model": '{class_path: "canary\\x2eModel", init_args: {day: 2001-99-99}}'},
    "text in text": {"model": "class_path: '{class_path: canary.Model}'"},
    "text among the arguments": {"model": spec("ppl_vae.models.VAE", decoder="{class_path: canary.Model}")},
    "spaces around": {"model": " canary.Model "},
    "a function for an argument":
        {"model": spec("torch.nn.TransformerEncoderLayer", activation="canary.rate")},
    "the system": {"model": "os.system"},
    "the system, called": {"model": spec("os.system", command="touch ran")},
    "a process": {"kl": {"z": spec("subprocess.Popen", args="touch ran", shell=True)}},
    "ours, and through it the system": {"schedule": "ppl_vae.runs.os.system"},
    "torch, and through it the system": {"optimizer": "torch.nn.modules.module.functools.os.system"},
    "torch's hub": {"model": spec("torch.hub.load", repo_or_dir="x/y", model="z")},
    "torch's load": {"schedule": "torch.load"},
    "torch's extensions": {"optimizer": "torch.utils.cpp_extension.load"},
    "our own function": {"schedule": "ppl_vae.runs.load"},
    "our own command": {"schedule": "ppl_vae.cli.main"},
    "our own writer": {"kl": {"z": spec("ppl_vae.train.loggers.TensorBoard", folder="ran", settings={})}},
    "a second copy of a program": {"model": "ppl_vae.cli.__main__.main"},
    "a builtin": {"schedule": "builtins.eval"},
    "whom to trust": {"trust": ["canary"], "model": "canary.Model"},
    "another file of options": {"config": "chained.yaml"},
}  # fmt: skip


@pytest.mark.parametrize("name", STRANGE)
def test_nothing_that_a_file_names_is_imported(name, folder, capsys):
    (folder / "strange.yaml").write_text(yaml.safe_dump({"data": "rows.npy", "epochs": 1, **STRANGE[name]}))
    assert main(["train", "--config", "strange.yaml", "--run_dir", str(folder / "ran")]) == 2
    err = capsys.readouterr().err
    assert not [left for left in ("sang", "built", "ran") if (folder / left).exists()], err
    assert "strange.yaml" in err
    assert "Traceback" not in err
    if "canary" in str(STRANGE[name]) and "trust" not in STRANGE[name]:
        assert "--trust canary" in err
        assert "trust=(" not in err


@pytest.mark.parametrize(
    "options",
    [
        {"estimator": {"canary.Model": {}}},
        {"model": spec("ppl_vae.models.VAE", decoder={"canary.Model": {}})},
        {"estimator.canary": {}},
    ],
)
def test_a_class_in_the_place_of_an_option_is_not_dropped(options, folder, capsys):
    (folder / "strange.yaml").write_text(yaml.safe_dump({"data": "rows.npy", "epochs": 1, **options}))
    assert main(["train", "--config", "strange.yaml", "--run_dir", str(folder / "ran")]) == 2
    assert "is no option" in capsys.readouterr().err
    assert not (folder / "ran").exists()


@pytest.mark.parametrize(
    "words",
    [
        "check --config strange.yaml",
        "compare --config strange.yaml --epochs 1",
        "train --config=strange.yaml --epochs 1",
        "train --epochs 1 --config strange.yaml --config strange.yaml",
        "train --config strange.yaml --print_config",
        "evaluate run --config strange.yaml",
        "sample run --config strange.yaml",
    ],
)
def test_by_every_command(words, folder, capsys):
    (folder / "strange.yaml").write_text(yaml.safe_dump({"model": spec("canary.Model")}))
    assert main(words.split()) == 2
    assert not (folder / "sang").exists(), capsys.readouterr()


def test_estimators_to_compare(folder, capsys):
    (folder / "strange.yaml").write_text(yaml.safe_dump({"estimators": ["ELBO", spec("canary.Model")]}))
    assert main(["compare", "--config", "strange.yaml", "--epochs", "1"]) == 2
    assert "estimators[1].class_path: canary.Model" in capsys.readouterr().err
    assert not (folder / "sang").exists()


@pytest.mark.parametrize(
    "text", ["model: !!python/name:canary.Model", "!!python/object/apply:os.system [touch ran]"]
)
def test_tags_of_yaml(text, folder, capsys):
    (folder / "strange.yaml").write_text(text)
    assert main(["train", "--config", "strange.yaml"]) == 2
    assert "no YAML of plain values" in capsys.readouterr().err
    assert not (folder / "sang").exists()


@pytest.mark.parametrize("words", ["--model inner.yaml", "--model.init_args inner.yaml", "--kl inner.yaml"])
def test_a_file_in_the_place_of_a_value_is_not_read(words, folder, capsys):
    assert main(["train", "--data", "rows.npy", *words.split()]) == 2
    assert "Traceback" not in capsys.readouterr().err
    assert not (folder / "sang").exists()


def test_the_surroundings_name_nothing(folder, monkeypatch, capsys):
    monkeypatch.setenv("JSONARGPARSE_DEFAULT_ENV", "true")
    monkeypatch.setenv("PPL_VAE_CHECK_CONFIG", "chained.yaml")
    monkeypatch.setenv("PPL_VAE_CHECK__MODEL", "canary.Model")
    assert main(["check", "--data", "rows.npy"]) == 0, capsys.readouterr()
    assert not (folder / "sang").exists()


def test_what_the_words_name_is_trusted(folder, capsys):
    assert main(["check", "--data", "rows.npy", "--model", "canary.Model"]) == 1
    assert (folder / "built").exists()
    assert "the canary was built" in capsys.readouterr().err
    (folder / "strange.yaml").write_text("model: {class_path: canary.Model}\nguide: other_canary.Guide\n")
    assert main(["check", "--config", "strange.yaml", "--model", "canary.Model"]) == 2
    assert "--trust other_canary" in capsys.readouterr().err


@pytest.mark.parametrize(
    "trust", [["--trust", "canary"], ["--trust=canary"], ["--trust", "canary", "other"],
              ["--trust", "other,canary"], ["--trust", "[other, canary]"],
              ["--trust", "other", "--trust", "canary"]],
)  # fmt: skip
def test_trust_as_the_help_writes_it(trust, folder, capsys):
    (folder / "strange.yaml").write_text("data: rows.npy\nmodel: {class_path: canary.Model}\n")
    for words in (["--config", "strange.yaml", *trust], [*trust, "--config", "strange.yaml"]):
        assert main(["check", *words]) == 1
        assert "the canary was built" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("trust", "says"), [(["--trust"], "needs the name"), (["--trust", "canary.py"], "goes by canary")]
)
def test_trust_without_a_module(trust, says, capsys):
    assert main(["check", *trust]) == 2
    assert says in capsys.readouterr().err


@pytest.mark.parametrize(
    "argument",
    [
        {"act": "os.system"},
        {"more": spec("subprocess.Popen", args="touch ran", shell=True)},
        {"act": "my_parts.torch.load"},
    ],
)
def test_a_trusted_file_opens_no_door_to_others(argument, folder, capsys):
    (folder / "strange.yaml").write_text(
        yaml.safe_dump({"data": "rows.npy", "model": spec("my_parts.Model", **argument)})
    )
    assert main(["check", "--config", "strange.yaml", "--trust", "my_parts"]) == 2
    assert "refused" in capsys.readouterr().err
    assert not (folder / "ran").exists()


def test_what_is_ours_torchs_and_pyros_needs_no_trust(folder, capsys):
    options = {
        "data": "rows.npy",
        "epochs": 1,
        "model": spec("ppl_vae.models.VAE", likelihood=spec("ppl_vae.likelihoods.Gaussian", event_dim=1),
                      decoder=spec("ppl_vae.nets.MLPDecoder", latent_dim=2, shape=[4]), latent_dim=2),
        "estimator": spec("pyro.infer.Trace_ELBO", num_particles=2, vectorize_particles=True),
        "optimizer": "torch.optim.RMSprop",
        "schedule": "ppl_vae.train.optimizers.iwae",
        "progress": False,
        "evaluate": {"num_particles": 20},
        "report": {"figures": False, "num_data": 0},
    }  # fmt: skip
    (folder / "fine.yaml").write_text(yaml.safe_dump(options))
    assert main(["train", "--config", "fine.yaml", "--run_dir", "fine"]) == 0, capsys.readouterr()
    kept = yaml.safe_load((folder / "fine" / COMMAND).read_text())
    assert not kept["trust"]
    assert main(["train", "--config", f"fine/{COMMAND}", "--run_dir", "again"]) == 0, capsys.readouterr()
