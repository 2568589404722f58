"""One table of the mistakes that users make, in Python and at the command line, each with its clear error."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import textwrap
from collections.abc import Callable
from typing import NamedTuple

import numpy as np
import pyro
import pyro.distributions as dist
import pytest
import torch
from torch import nn

from ppl_vae import Pair, data, estimators, evaluate, fit, guides, likelihoods, models, nets, queries, runs
from ppl_vae.cli import main
from ppl_vae.runs import CONFIG, WEIGHTS
from ppl_vae.testing import check_pair

X = torch.bernoulli(torch.full((20, 1, 8, 8), 0.5), generator=torch.Generator().manual_seed(0))

PROGRAMS = """
    import pyro
    import pyro.distributions as dist
    import torch
    from torch import Tensor, nn


    class Misspelt(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.scale = nn.Parameter(torch.ones(3))

        def forward(self, x: Tensor) -> None:
            with pyro.plate("data", len(x), dim=-1):
                pyro.sample("Z", dist.Normal(x.new_zeros(len(x), 3), self.scale).to_event(1))


    class Refuses(nn.Module):
        def __init__(self, width: int) -> None:
            super().__init__()
            raise ValueError(f"width {width} is odd")


    class NoModule:
        pass
"""


def vae(latent_dim: int = 3) -> models.VAE:
    return models.VAE(
        likelihoods.Bernoulli(), nets.MLPDecoder(latent_dim, (1, 8, 8), hidden=(8,)), latent_dim
    )


def encoder(latent_dim: int = 3, shape: tuple[int, ...] = (1, 8, 8)) -> nets.MLPEncoder:
    return nets.MLPEncoder(shape, latent_dim, hidden=(8,))


def pair(latent_dim: int = 3) -> Pair:
    return Pair(vae(latent_dim), guides.MeanField(encoder(latent_dim)), example=(X,))


class Outside(nn.Module):
    """A latent outside the data plate."""

    def __init__(self) -> None:
        super().__init__()
        self.loc = nn.Parameter(torch.zeros(3))

    def forward(self, x):
        return pyro.sample("z", dist.Normal(self.loc, 1.0).to_event(1))


class NoEvent(nn.Module):
    """A guide that forgets `to_event`."""

    def __init__(self) -> None:
        super().__init__()
        self.encoder = encoder()

    def forward(self, x):
        with pyro.plate("data", len(x), dim=-1):
            return pyro.sample("z", dist.Normal(*self.encoder(x)))


def train(*args, **options):
    return fit(pair(), estimators.ELBO(), X, progress=False, **{"epochs": 1, **options}) if not args else None


class Mistake(NamedTuple):
    """What is done (a function, or the words of a command), the message's part, and the exit code."""

    name: str
    done: Callable[[], object] | str
    says: str
    code: int = 1


MISTAKES = [
    # Python: data
    Mistake("unknown data set", lambda: data.load("mnits"), "did you mean 'mnist'"),
    Mistake("missing file", lambda: data.load("nowhere.npz"), "no such file"),
    Mistake("truncated file", lambda: data.load("broken.npz"), "broken.npz"),
    Mistake("NaN in the data", lambda: data.load("nan.npy"), "row 4"),
    Mistake("words in the csv", lambda: data.load("words.csv"), "words.csv"),
    Mistake("unreadable ending", lambda: data.load("notes.pdf"), ".npz, .npy, .csv"),
    Mistake("empty array", lambda: data.load("empty.npy"), "empty"),
    Mistake("empty split", lambda: data.from_tensors(X, valid_fraction=0.01), "leave the valid part empty"),
    Mistake("fractions above one", lambda: data.from_tensors(X, valid_fraction=0.6, test_fraction=0.6), "sum to"),
    Mistake("labels of another length", lambda: data.from_tensors(X, torch.zeros(3, dtype=torch.long)), "3"),
    # Python: shapes and supports
    Mistake("grey for a Bernoulli", lambda: likelihoods.Bernoulli().check(X * 0.5), "binarise"),
    Mistake("0..255 for a Bernoulli", lambda: likelihoods.Bernoulli().check(X * 255), "divide by 255 or binarise"),
    Mistake("images to a net for others", lambda: encoder()(torch.zeros(2, 1, 28, 28)), "(2, 1, 28, 28)"),
    Mistake("odd images to a conv net", lambda: nets.ConvEncoder((1, 9, 9), 2), "divisible by 4"),
    Mistake("latent_dim unlike the decoder's", lambda: models.VAE(likelihoods.Bernoulli(), nets.MLPDecoder(2, (4,)), 3), "latent_dim is 3"),
    Mistake("unknown activation", lambda: nets.MLP(3, activation="rleu"), "rleu"),
    Mistake("event_dim of images for vectors", lambda: likelihoods.Bernoulli().raw_shape((5,)), "event_dim=1"),
    # Python: pairs
    Mistake("a tensor for a program", lambda: Pair(torch.zeros(3), vae()), "torch.nn.Module or a function"),
    Mistake("a latent outside the plate", lambda: check_pair(Pair(vae(), Outside()), X), "z"),
    Mistake("a guide without to_event", lambda: check_pair(Pair(vae(), NoEvent()), X), "to_event"),
    Mistake("a guide of another size", lambda: check_pair(Pair(vae(3), guides.MeanField(encoder(4))), X), "z"),
    Mistake("samples from an unseen pair", lambda: queries.sample(Pair(vae(), guides.MeanField(encoder())), 2), "has not seen data"),
    Mistake("an unknown latent site", lambda: queries.traverse(pair(), X[:1], "w"), "'w'"),
    Mistake("chosen latents of a wrong size", lambda: queries.decode(pair(), torch.zeros(2, 7)), "7"),
    # Python: options
    Mistake("no epochs", lambda: train(epochs=0), "epochs must be a positive whole number"),
    Mistake("unknown optimizer", lambda: train(optimizer="adma"), "unknown optimizer 'adma'"),
    Mistake("unknown schedule", lambda: train(schedule="cosin"), "unknown schedule 'cosin'"),
    Mistake("unknown device", lambda: train(device="gpu"), "device 'gpu' is not available"),
    Mistake("a negative learning rate", lambda: train(learning_rate=-1.0), "learning_rate must be positive"),
    Mistake("a KL weight for an unknown site", lambda: train(kl={"w": 0.5}), "latent sites are ['z']"),
    Mistake("resume without a folder", lambda: train(resume=True), "needs the run's folder"),
    Mistake("an unknown logger", lambda: train(loggers=["tensorbord"], run_dir="logged"), "unknown loggers"),
    Mistake("an estimator's class", lambda: fit(pair(), estimators.IWAE, X), "must be an object such as"),
    Mistake("no particles", lambda: estimators.IWAE(num_particles=0), "num_particles must be a positive"),
    Mistake("a whole data set to evaluate", lambda: evaluate.bounds(pair(), data.from_tensors(X)), "one of its parts"),
    # Python: runs
    Mistake("no run", lambda: runs.load("nowhere"), "there is no folder nowhere"),
    Mistake("a folder of something else", lambda: runs.load("empty_folder"), "config.yaml"),
    Mistake("truncated weights", lambda: runs.load("truncated"), "truncated"),
    Mistake("corrupt config", lambda: runs.load("corrupt"), "config.yaml"),
    Mistake("a config that names a program", lambda: runs.load("evil"), "refused"),
    Mistake("another pair than the run's", lambda: runs.load("run", pair=pair(5)), "does not fit the pair"),
    # the command line: words
    Mistake("no command", "", "", 2),
    Mistake("misspelt command", "trian", "did you mean 'train'", 2),
    Mistake("misspelt option", "train --epoch_s 3", "did you mean --epochs", 2),
    Mistake("text for a number", "train --epochs many", "--epochs", 2),
    Mistake("misspelt choice", "train --pair.net cnn", "mlp", 2),
    Mistake("misspelt estimator", "train --estimator IWEA", "did you mean 'IWAE'", 2),
    Mistake("unknown argument of an estimator", "train --estimator IWAE --estimator.particles 3", "'particles'", 2),
    Mistake("missing arguments of a class", "train --model VAE", "required", 2),
    Mistake("no such module", "train --model nowhere_at_all.Model", "No module named 'nowhere_at_all'", 2),
    Mistake("no such class", "train --model my_mistakes.Absent", "Absent", 2),
    Mistake("a class that is no module", "train --model my_mistakes.NoModule", "my_mistakes.NoModule", 2),
    Mistake("a function for a class", "train --model os.system", "os.system", 2),
    Mistake("a constructor that refuses", "train --data bits.npy --model my_mistakes.Refuses --model.width 3", "width 3 is odd"),
    Mistake("missing config file", "train --config nowhere.yaml", "nowhere.yaml", 2),
    Mistake("corrupt config file", "train --config corrupt/config.yaml", "--config", 2),
    Mistake("unknown key in a config file", "train --config unknown.yaml", "epoch_s", 2),
    Mistake("resume without run_dir", "train --resume", "--run_dir", 2),
    Mistake("optimizer of nowhere", "train --data bits.npy --optimizer torch.optim.Nope", "torch.optim.Nope", 2),
    Mistake("unknown kind to list", "list modles", "modles", 2),
    Mistake("samples in a file of words", "sample run --out samples.docx", ".npz", 2),
    Mistake("labels for half of the default pair", "train --data labelled.npz --labels --guide my_mistakes.Misspelt", "--model", 2),
    # the command line: input
    Mistake("unknown data at the command line", "train --data digitz", "did you mean 'digits'"),
    Mistake("missing data file", "train --data nowhere.csv", "no such file"),
    Mistake("NaN in a data file", "train --data nan.npy", "row 4"),
    Mistake("grey data for a Bernoulli", "train --data grey.npy --pair.likelihood Bernoulli", "binarise"),
    Mistake("a misspelt site", "train --data bits.npy --guide my_mistakes.Misspelt --pair.latent_dim 3", "--model", 2),
    Mistake("a misspelt site, checked", "check --data bits.npy --guide my_mistakes.Misspelt --model VAE --model.likelihood Bernoulli "
            "--model.decoder MLPDecoder --model.decoder.latent_dim 3 --model.decoder.shape [1,8,8] --model.latent_dim 3", "'Z'"),
    Mistake("zero particles", "train --data bits.npy --estimator IWAE --estimator.num_particles 0", "num_particles"),
    Mistake("a warm-up under the IWAE", "train --data bits.npy --estimator IWAE --kl 0.5", "estimators.ELBO"),
    Mistake("training that explodes", "train --data grey.npy --learning_rate 1e30 --epochs 3 --run_dir exploded", "smaller learning_rate"),
    Mistake("a folder that holds a run", "train --data bits.npy --run_dir run", "already holds a run"),
    Mistake("resume with other settings", "train --data bits.npy --run_dir resumed --resume", "other settings"),
    Mistake("no run to evaluate", "evaluate nowhere", "there is no folder"),
    Mistake("truncated run to evaluate", "evaluate truncated", "truncated"),
    Mistake("corrupt run to sample", "sample corrupt", "config.yaml"),
    Mistake("a run that does not say its data", "evaluate run", "give --data", 2),
    Mistake("a run for other data", "evaluate run --data rows.npy --progress false", "got (12, 5)"),
    Mistake("no samples", "sample run --num 0", "n must be"),
    Mistake("a device that is not there", "sample run --device cuda:77", "device"),
]  # fmt: skip

IN_PYTHON = [mistake for mistake in MISTAKES if not isinstance(mistake.done, str)]
AT_THE_COMMAND_LINE = [mistake for mistake in MISTAKES if isinstance(mistake.done, str)]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Good and bad files to make mistakes with."""
    home = tmp_path_factory.mktemp("mistakes")
    random = np.random.default_rng(0)
    bits = random.integers(0, 2, (60, 8, 8), dtype=np.uint8)
    rows = random.normal(size=(60, 5)).astype(np.float32)
    np.save(home / "bits.npy", bits)
    np.save(home / "grey.npy", random.random((60, 8, 8), dtype=np.float32))
    np.save(home / "rows.npy", rows)
    np.save(home / "empty.npy", rows[:0])
    np.savez(home / "labelled.npz", x=bits, y=np.arange(60) % 3)
    rows[4, 2] = np.nan
    np.save(home / "nan.npy", rows)
    (home / "broken.npz").write_bytes((home / "labelled.npz").read_bytes()[:100])
    (home / "words.csv").write_text("1,2\n3,four\n")
    (home / "notes.pdf").write_text("hello")
    (home / "unknown.yaml").write_text("epoch_s: 3\n")
    (home / "my_mistakes.py").write_text(textwrap.dedent(PROGRAMS))
    (home / "empty_folder").mkdir()
    train_in(home / "run")
    for name in ("truncated", "corrupt", "evil", "resumed"):
        shutil.copytree(home / "run", home / name)
    weights = home / "truncated" / WEIGHTS
    weights.write_bytes(weights.read_bytes()[:-100])
    (home / "corrupt" / CONFIG).write_text("pair: [unclosed\n")
    config = (home / "evil" / CONFIG).read_text().partition("\n")[2]  # a stranger can write the checksum too
    (home / "evil" / CONFIG).write_text(config.replace("ppl_vae.models.vae.VAE", "os.system"))
    return home


def train_in(path):
    fit(pair(), estimators.ELBO(), X, epochs=1, progress=False, run_dir=path)


@pytest.fixture(autouse=True)
def _in_folder(folder, monkeypatch):
    monkeypatch.chdir(folder)
    monkeypatch.setattr(sys, "path", [*sys.path])


def test_the_table_is_long_enough():
    assert len(MISTAKES) >= 25
    assert len({mistake.name for mistake in MISTAKES}) == len(MISTAKES)


@pytest.mark.parametrize("mistake", IN_PYTHON, ids=lambda mistake: mistake.name)
def test_in_python(mistake):
    with pytest.raises((ValueError, TypeError, RuntimeError)) as caught:
        mistake.done()
    assert mistake.says in str(caught.value)


@pytest.mark.parametrize("mistake", AT_THE_COMMAND_LINE, ids=lambda mistake: mistake.name)
def test_at_the_command_line(mistake, capsys):
    code = main(mistake.done.split())
    printed = capsys.readouterr()
    assert code == mistake.code, printed.err
    assert mistake.says in printed.err
    assert "Traceback" not in printed.err
    assert "is a bug" not in printed.err
    assert "Trace Shapes" not in printed.err


def test_in_a_process_of_its_own(folder):
    (mistake,) = [mistake for mistake in AT_THE_COMMAND_LINE if mistake.name == "no run to evaluate"]
    done = subprocess.run(
        [sys.executable, "-m", "ppl_vae.cli", *mistake.done.split()],
        capture_output=True, text=True, check=False, cwd=folder, env={**os.environ, "OMP_NUM_THREADS": "1"},
    )  # fmt: skip
    assert done.returncode == mistake.code
    assert mistake.says in done.stderr
    assert "Traceback" not in done.stderr
