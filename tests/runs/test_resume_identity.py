"""A resume continues the run that the folder holds, and refuses another pair,
other data and other options.
"""

from __future__ import annotations

import functools
import subprocess
import sys

import numpy as np
import pytest
import torch
import yaml
from torch import nn

import ppl_vae as pv
from ppl_vae import data, estimators, guides, kl, likelihoods, models, nets
from ppl_vae.data.rows import HostTensor, stream
from ppl_vae.runs import identity
from tests.runs import programs
from tests.runs.programs import Bent, contents, gentle, halved, make_data, make_pair, tenth, train


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    folder = tmp_path_factory.mktemp("identity") / "run"
    train(folder)
    return folder


def other_values() -> torch.Tensor:
    x = make_data()
    x[17, 3] += 1e-3
    return x


OTHERS = {
    "activation": ({"pair": make_pair("relu")}, r"pair\.guide\.encoder\.activation was 'tanh', is 'relu'"),
    "noise": ({"pair": make_pair(noise=0.6)}, r"pair\.model\.noise was 0\.5, is 0\.6"),
    "guide": (
        {"pair": pv.Pair(make_pair().model, guides.FullRank(nets.MLPEncoder((5,), 2, hidden=(4,))))},
        r"pair\.guide was .*MeanField, is .*FullRank",
    ),
    "length": ({"x": make_data(rows=50)}, r"data\.train\.rows was 60, is 50"),
    "values": ({"x": make_data(seed=9)}, r"data\.train\.values was"),
    "one value": ({"x": other_values()}, r"data\.train\.values was"),
    "order": ({"x": make_data().flip(0)}, r"data\.train\.values was"),
    "estimator": (
        {"estimator": estimators.Renyi(0.3)},
        r"estimator was 'ELBO\(num_particles=1\)', is 'Renyi",
    ),
    "kl": ({"kl": kl.LinearWarmup(1)}, r"kl was 1\.0, is 'LinearWarmup"),
    "optimizer": ({"optimizer": gentle}, r"optimizer was 'adam', is 'tests\.runs\.programs:gentle'"),
    "schedule": ({"schedule": halved}, r"schedule was 'constant', is 'tests\.runs\.programs:halved'"),
}


@pytest.mark.parametrize("other", list(OTHERS))
def test_another_run_is_refused_and_changes_nothing(other, run):
    options, message = OTHERS[other]
    pair = options.get("pair", make_pair(seed=3))
    before, weights = contents(run), {name: value.clone() for name, value in pair.state_dict().items()}
    with pytest.raises(pv.RunError, match=message):
        train(run, **{**options, "pair": pair}, resume=True, epochs=3)
    assert contents(run) == before
    assert all(torch.equal(value, weights[name]) for name, value in pair.state_dict().items())


@pytest.mark.parametrize(
    ("first", "second"),
    [
        ({"seed": 0}, {"seed": 9}),
        ({"binarise": "dynamic"}, {"binarise": "fixed"}),
        ({"binarise": None}, {"binarise": "dynamic"}),
    ],
    ids=str,
)
def test_data_sets_of_one_name_and_size_are_told_apart(first, second, tmp_path):
    rows, classes = np.random.default_rng(0).random((60, 1, 4, 4)), np.arange(60) % 3
    one, other = (data.from_tensors(rows, classes, name="mine", **options) for options in (first, second))
    assert repr(one) == repr(other)

    def pair() -> pv.Pair:
        decoder = nets.MLPDecoder(2, (1, 4, 4), (4,))
        model = models.VAE(likelihoods.Gaussian(scale=0.5), decoder, 2)
        return pv.Pair(model, guides.MeanField(nets.MLPEncoder((1, 4, 4), 2, (4,))))

    train(tmp_path, pair(), one)
    with pytest.raises(pv.RunError, match=r"data\.train\.(values|dynamic|labels|divisor|stored) was"):
        train(tmp_path, pair(), other, resume=True, epochs=3)
    train(tmp_path, pair(), one, resume=True, epochs=3)


def test_every_row_of_much_data_in_memory_counts(tmp_path, monkeypatch):
    """A sample of it is what files are known by, and says too little of what is all there."""
    monkeypatch.setattr(identity, "_WHOLE", 1000)
    monkeypatch.setattr(identity, "_SAMPLED", 100)
    monkeypatch.setattr(identity, "_CHUNK", 100)
    x = make_data()
    train(tmp_path, x=x)
    before, beyond_the_sample = identity.data_identity(x), 0
    for row in range(len(x)):
        other = x.clone()
        other[row, 2] = -other[row, 2]
        now = identity.data_identity(other)
        assert now["train"]["all"] != before["train"]["all"]
        if now["train"]["values"] == before["train"]["values"]:
            beyond_the_sample += 1
            with pytest.raises(pv.RunError, match=r"data\.train\.all was '.*', is '"):
                train(tmp_path, x=other, resume=True, epochs=3)
            break
    assert beyond_the_sample
    source = data.Split(stream(HostTensor(x))).to("cpu")  # one that would not fit on a device
    assert identity.data_identity(source) == before
    assert len(train(tmp_path, x=x.clone(), resume=True, epochs=3).history) == 3


class MayBeMasked(nn.Module):
    """A model that takes a mask where there is one."""

    def __init__(self) -> None:
        super().__init__()
        self.inner = make_pair().model

    def forward(self, x, mask=None):
        return self.inner(x if mask is None else x * mask)


def test_an_array_that_is_no_longer_given_is_other_data(tmp_path):
    pair = pv.Pair(MayBeMasked(), make_pair().guide)
    x, mask = make_data(), make_data() > 0
    train(tmp_path, pair, {"x": x, "mask": mask}, check=False)
    with pytest.raises(pv.RunError, match=r"data\.train\.names was \['x', 'mask'\], is \['x'\]"):
        train(tmp_path, pair, {"x": x}, resume=True, epochs=3, check=False)


def test_what_a_pair_computes_is_compared_where_nothing_that_is_stored_differs(tmp_path, monkeypatch):
    pair = pv.Pair(Bent(), make_pair().guide)
    train(tmp_path, pair)
    before = contents(tmp_path)
    monkeypatch.setattr(Bent, "bend", staticmethod(torch.relu))
    with pytest.raises(pv.RunError, match=r"another pair, though its weights.*model's x has the log-density"):
        train(tmp_path, pv.Pair(Bent(), make_pair().guide), resume=True, epochs=3)
    assert contents(tmp_path) == before
    monkeypatch.undo()
    assert len(train(tmp_path, pv.Pair(Bent(), make_pair().guide), resume=True, epochs=3).history) == 3


def local_pair(activation):
    class Local(nn.Module):
        def __init__(self, act) -> None:
            super().__init__()
            self.act = act
            self.inner = make_pair().model

        def forward(self, x):
            return self.inner(self.act(x))

    return pv.Pair(Local(activation), make_pair().guide)


@pytest.mark.filterwarnings("ignore:this pair cannot be rebuilt")
def test_a_pair_without_a_tree_is_told_by_its_parts(tmp_path):
    train(tmp_path, local_pair(nn.Identity()), check=False)
    with pytest.raises(pv.RunError, match=r"pair\.structure\.model\.act was .*Identity, is .*Tanh"):
        train(tmp_path, local_pair(nn.Tanh()), resume=True, epochs=3, check=False)
    train(tmp_path, local_pair(nn.Identity()), resume=True, epochs=3, check=False)


def test_a_function_that_was_changed_is_another(tmp_path, monkeypatch):
    train(tmp_path, schedule=halved, optimizer=gentle)
    monkeypatch.setattr(programs, "halved", tenth)
    changed = functools.wraps(halved)(lambda fraction: 0.1)
    monkeypatch.setattr(programs, "halved", changed)
    with pytest.raises(pv.RunError, match=r"schedule\[0\] was 1\.0, is 0\.1"):
        train(tmp_path, schedule=changed, optimizer=gentle, resume=True)


SCRIPT = """
import functools, sys, torch
torch.set_num_threads(1)
from tests.runs.programs import gentle, halved, train
optimizer = functools.partial(gentle) if sys.argv[2] == "partial" else gentle
run = train(sys.argv[1], schedule=halved, optimizer=optimizer, resume=True)
print(len(run.history), run.stopped)
"""


def test_a_run_with_functions_is_resumed_in_another_process(tmp_path, monkeypatch, pytestconfig):
    from ppl_vae.train.state import Training

    def killed(training, row):
        finish(training, row)
        training.save()
        raise RuntimeError("killed")

    finish = Training.finish_epoch
    monkeypatch.setattr(Training, "finish_epoch", killed)
    with pytest.raises(RuntimeError, match="killed"):
        train(tmp_path, schedule=halved, optimizer=gentle)
    settings = yaml.safe_load((tmp_path / "config.yaml").read_text())["fit"]
    assert (settings["schedule"], settings["optimizer"]) == (
        "tests.runs.programs:halved",
        "tests.runs.programs:gentle",
    )
    words = [sys.executable, "-c", SCRIPT, str(tmp_path), "plain"]
    done = subprocess.run(words, cwd=pytestconfig.rootpath, capture_output=True, text=True, check=False)
    assert done.stdout.strip() == "2 finished", done.stderr


@pytest.mark.parametrize("name", ["schedule", "optimizer"])
def test_a_lambda_is_told_at_the_start_that_it_cannot_be_resumed_elsewhere(name, tmp_path):
    inside = {
        "schedule": lambda fraction: 1.0,
        "optimizer": functools.partial(lambda parameters, lr: torch.optim.SGD(parameters, lr=lr)),
    }
    with pytest.warns(UserWarning, match=rf"^{name}=.*cannot be resumed there\. Define it at the top level"):
        train(tmp_path / "a", **{name: inside[name]})
    with pytest.warns(UserWarning, match="cannot be resumed there"):
        train(tmp_path / "a", **{name: inside[name]}, resume=True)  # the same object of the same process
    another = {
        "schedule": lambda fraction: 1.0,
        "optimizer": lambda parameters, lr: torch.optim.SGD(parameters, lr=lr),
    }
    with (
        pytest.warns(UserWarning, match="cannot be resumed there"),
        pytest.raises(pv.RunError, match="cannot be recognised later: define it at the top level"),
    ):
        train(tmp_path / "a", **{name: another[name]}, resume=True)
    train_without_folder = {**programs.QUICK, name: inside[name]}
    pv.fit(make_pair(), estimators.ELBO(), make_data(), **train_without_folder)  # nothing to resume, no word


def test_a_run_of_the_version_before_resumes_and_is_held_to_its_config(tmp_path):
    folder = tmp_path / "run"
    train(folder, optimizer=torch.optim.AdamW)
    state = torch.load(folder / "checkpoint.pt")
    for new in ("identity", "computes"):
        del state[new]
    state["settings"]["optimizer"] = "<class 'torch.optim.adamw.AdamW'>"
    torch.save(state, folder / "checkpoint.pt")
    text = (folder / "config.yaml").read_text().partition("\n")[2]
    (folder / "config.yaml").write_text(text)
    with pytest.raises(pv.RunError, match=r"activation was 'tanh', is 'relu'"):
        train(folder, make_pair("relu"), optimizer=torch.optim.AdamW, resume=True, epochs=3)
    assert len(train(folder, optimizer=torch.optim.AdamW, resume=True, epochs=3).history) == 3
