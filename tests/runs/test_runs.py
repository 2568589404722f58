from __future__ import annotations

import math
import os
import pickle
import signal
from pathlib import Path

import pandas as pd
import pytest
import safetensors.torch
import torch
import yaml
from torch import Tensor, nn

from ppl_vae import Pair, guides, models, nets, runs
from ppl_vae.runs import (
    CONFIG,
    WEIGHTS,
    RunError,
    RunFolder,
    atomic_write,
    load,
    pair_config,
    pair_from_config,
)
from ppl_vae.runs.config import ConfigError

TRUST = (__name__,)


class Prior(nn.Module):
    """Shares the guide's encoder, as the VampPrior does."""

    def __init__(self, encoder: nn.Module, num_inputs: int = 3) -> None:
        super().__init__()
        self.encoder, self.num_inputs = encoder, num_inputs
        self.inputs = nn.Parameter(torch.rand(num_inputs, 5))


class Kept(nn.Module):
    """A buffer that no file holds, a normalisation with counts, and an empty parameter."""

    def __init__(self, size: int) -> None:
        super().__init__()
        self.size = size
        self.linear = nn.Linear(size, size)
        self.norm = nn.BatchNorm1d(size)
        self.empty = nn.Parameter(torch.zeros(0, size))
        self.register_buffer("constant", torch.ones(size), persistent=False)


class Changed(nn.Module):
    """Does not keep its argument as it was."""

    def __init__(self, size: int) -> None:
        super().__init__()
        self.size = 2 * size
        self.linear = nn.Linear(size, size)


class Tied(nn.Module):
    def __init__(self, one: nn.Linear, other: nn.Linear) -> None:
        super().__init__()
        self.one, self.other = one, other


class Evil:
    def __init__(self, target: Path) -> None:
        self.target = target

    def __reduce__(self) -> tuple:
        return (Path.touch, (self.target,))


def make_pair(data_dim: int = 5) -> Pair:
    model = models.LinearGaussian(2, data_dim, noise=0.5)
    guide = guides.FullRank(nets.MLPEncoder((data_dim,), 2, hidden=(4,)))
    return Pair(model, guide, example=(torch.zeros(1, data_dim),))


def sharing_pair() -> Pair:
    encoder = nets.MLPEncoder((5,), 2, hidden=(4,))
    return Pair(Prior(encoder), guides.MeanField(encoder), example=(torch.zeros(1, 5), torch.zeros(1).long()))


def save(pair: Pair, path: Path) -> RunFolder:
    folder = RunFolder(path)
    folder.write_config({**pair_config(pair), "fit": {"epochs": 3}})
    folder.save_weights(pair)
    return folder


def assert_same(one: nn.Module, other: nn.Module) -> None:
    ours, theirs = one.state_dict(), other.state_dict()
    assert list(ours) == list(theirs)
    for name in ours:
        assert ours[name].dtype == theirs[name].dtype
        assert torch.equal(ours[name], theirs[name])


def test_a_pair_comes_back_from_its_folder(tmp_path):
    pair = make_pair()
    save(pair, tmp_path / "run")
    before = torch.get_rng_state()
    again = load(tmp_path / "run")
    assert torch.equal(torch.get_rng_state(), before)
    assert_same(again, pair)
    assert again.datum_spec == pair.datum_spec
    assert not any(module.training for module in again.modules())
    x = torch.randn(3, 5)
    assert torch.equal(again.guide.posterior(x).loc, pair.guide.posterior(x).loc)
    assert [tensor.shape for tensor in again.blank_batch(4)] == [(4, 5)]


def test_the_configuration_has_the_documented_keys(tmp_path):
    folder = save(sharing_pair(), tmp_path)
    config = folder.read_config()
    assert list(config) == ["ppl_vae", "pair", "datum", "fit"]
    assert config["datum"] == [[[5], "float32"], [[], "int64"]]
    assert config["pair"]["guide"]["class_path"] == "ppl_vae.guides.mean_field.MeanField"


def test_pair_config_leaves_the_random_numbers_alone():
    pair, before = make_pair(), torch.get_rng_state()
    pair_config(pair)
    assert torch.equal(torch.get_rng_state(), before)


def test_a_module_in_model_and_guide_is_written_once_and_shared_again(tmp_path):
    pair = sharing_pair()
    save(pair, tmp_path)
    stored = safetensors.torch.load_file(tmp_path / WEIGHTS)
    assert "model.encoder.head.linear.weight" in stored
    assert not any(name.startswith("guide.") for name in stored)
    again = load(tmp_path, trust=TRUST)
    assert again.model.encoder is again.guide.encoder
    assert_same(again, pair)
    assert again.datum_spec == pair.datum_spec


@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16])
def test_the_dtype_of_the_weights_is_kept(tmp_path, dtype):
    pair = Pair(Kept(3), Kept(2)).to(dtype)
    pair.model.norm.num_batches_tracked.fill_(7)
    save(pair, tmp_path)
    again = load(tmp_path, trust=TRUST)
    assert_same(again, pair)
    assert again.model.constant.dtype == dtype


def test_mixed_dtypes_are_kept_by_tensor(tmp_path):
    pair = Pair(Kept(3), Kept(2).double())
    save(pair, tmp_path)
    assert_same(load(tmp_path, trust=TRUST), pair)


def test_weights_in_any_layout_are_stored(tmp_path):
    pair = Pair(nn.Conv2d(2, 3, 3), nn.Linear(2, 3))
    pair.model.to(memory_format=torch.channels_last)
    whole = torch.randn(2, 3, 2)
    pair.guide.weight = nn.Parameter(whole[1])  # a view of a larger storage
    save(pair, tmp_path)
    assert_same(load(tmp_path), pair)


def test_a_given_pair_is_filled_in_place(tmp_path):
    pair = make_pair()
    save(pair, tmp_path)
    given = Pair(make_pair().model, make_pair().guide)
    parameters = list(given.parameters())
    assert load(tmp_path, pair=given) is given
    assert_same(given, pair)
    assert given.datum_spec == pair.datum_spec
    assert all(one is other for one, other in zip(parameters, given.parameters(), strict=True))


@pytest.mark.cuda
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs CUDA")
def test_a_pair_is_stored_from_and_loaded_to_the_gpu(tmp_path):
    pair = sharing_pair().to("cuda")
    save(pair, tmp_path)
    again = load(tmp_path, trust=TRUST, device="cuda")
    assert again.device.type == "cuda"
    assert_same(again, pair)


def notebook_pair() -> Pair:
    class Drawn(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.linear = nn.Linear(2, 2)

    return Pair(Drawn(), Drawn())


def tied_pair() -> Pair:
    pair = Pair(Tied(nn.Linear(2, 2), nn.Linear(2, 2)), nn.Identity())
    pair.model.other.weight = pair.model.one.weight
    return pair


@pytest.mark.parametrize(
    ("make", "why"),
    [
        (notebook_pair, "Drawn is defined in a function"),
        (lambda: Pair(Changed(2), nn.Identity()), "other tensors.*model.linear.weight"),
        (tied_pair, "model.one.weight = model.other.weight.*share modules, not parameters"),
    ],
)
def test_a_pair_that_cannot_be_rebuilt_is_noted_and_loads_into_a_given_pair(tmp_path, make, why):
    pair = make()
    config = pair_config(pair)
    assert config["pair"]["rebuildable"] is False
    with pytest.raises(ConfigError, match=why):
        pair_from_config(config)
    save(pair, tmp_path)
    with pytest.raises(RunError, match=r"pass pair=\.\.\."):
        load(tmp_path, trust=TRUST)
    given = make()
    assert_same(load(tmp_path, pair=given), pair)


def test_pair_from_config_builds_an_untrained_pair():
    pair = make_pair()
    again = pair_from_config(yaml.safe_load(yaml.safe_dump(pair_config(pair))))
    assert repr(again) == repr(pair)
    assert again.datum_spec == pair.datum_spec


@pytest.mark.parametrize(
    "config", [{}, {"pair": None}, {"pair": {}}, {"pair": {"model": {"class_path": "x"}}}]
)
def test_a_configuration_without_a_pair_is_refused(config):
    with pytest.raises(ConfigError, match=r"pair|model"):
        pair_from_config(config)


def rewrite(path: Path, **changes: object) -> None:
    config = yaml.safe_load((path / CONFIG).read_text())
    (path / CONFIG).write_text(yaml.safe_dump({**config, **changes}))


def truncate(path: Path) -> None:
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def evil_config(path: Path) -> None:
    rewrite(path, pair={"model": {"class_path": "os.system", "init_args": {"command": f"touch {path}/hit"}}})


def evil_yaml(path: Path) -> None:
    (path / CONFIG).write_text(f"ppl_vae: !!python/object/apply:os.system ['touch {path}/hit']\n")


def evil_weights(path: Path) -> None:
    (path / WEIGHTS).write_bytes(pickle.dumps(Evil(path / "hit")))


DAMAGE = {
    "no config": (lambda p: (p / CONFIG).unlink(), "not the folder of a finished run: it lacks config.yaml$"),
    "no weights": (lambda p: (p / WEIGHTS).unlink(), "it lacks weights.safetensors"),
    "half the weights": (lambda p: truncate(p / WEIGHTS), "weights.safetensors is truncated or not"),
    "empty weights": (lambda p: (p / WEIGHTS).write_bytes(b""), "weights.safetensors is truncated or not"),
    "foreign weights": (
        lambda p: (p / WEIGHTS).write_bytes(b"PK" * 99),
        "weights.safetensors is truncated or not",
    ),
    "a pickle for weights": (evil_weights, "weights.safetensors is truncated or not"),
    "corrupt yaml": (
        lambda p: (p / CONFIG).write_text("pair: [1, {"),
        "config.yaml is not the YAML of a run",
    ),
    "binary yaml": (
        lambda p: (p / CONFIG).write_bytes(b"\xff\xfe\x00"),
        "config.yaml is not the YAML of a run",
    ),
    "yaml list": (lambda p: (p / CONFIG).write_text("[1, 2]"), "config.yaml is no run's configuration"),
    "empty yaml": (lambda p: (p / CONFIG).write_text(""), "config.yaml is no run's configuration"),
    "python tags": (evil_yaml, "config.yaml is not the YAML of a run.*python"),
    "os.system": (evil_config, "model: os.system is refused"),
    "newer": (lambda p: rewrite(p, ppl_vae="99.0.0"), r"written by ppl_vae 99\.0\.0.*upgrade"),
    "odd version": (lambda p: rewrite(p, ppl_vae="new"), "'new' is no version"),
    "bad datum": (lambda p: rewrite(p, datum=[[[5], "load"]]), r"datum: expected a list of \[shape, dtype\]"),
    "no pair": (lambda p: rewrite(p, pair=None), "no mapping 'pair'"),
}


@pytest.mark.parametrize("damage", list(DAMAGE))
def test_a_damaged_folder_gives_a_clear_error_and_runs_nothing(tmp_path, damage):
    save(make_pair(), tmp_path)
    harm, message = DAMAGE[damage]
    harm(tmp_path)
    with pytest.raises(RunError, match=message):
        load(tmp_path)
    assert not (tmp_path / "hit").exists()


def test_an_older_patch_of_the_same_minor_version_is_read(tmp_path):
    save(make_pair(), tmp_path)
    major, minor = RunFolder(tmp_path).read_config()["ppl_vae"].split(".")[:2]
    rewrite(tmp_path, ppl_vae=f"{major}.{minor}.999")
    load(tmp_path)


def test_a_folder_that_is_not_there_names_the_runs_that_are(tmp_path):
    with pytest.raises(RunError, match=r"there is no folder .*absent: train first"):
        load(tmp_path / "absent")
    save(make_pair(), tmp_path / "digits")
    with pytest.raises(RunError, match=r"there is no folder .*digit: the runs in .* are digits"):
        load(tmp_path / "digit")
    with pytest.raises(RunError, match=r"is a file: give the folder of the run, .*digits$"):
        load(tmp_path / "digits" / WEIGHTS)
    (tmp_path / "empty").mkdir()
    with pytest.raises(RunError, match=r"it lacks config\.yaml and weights\.safetensors"):
        load(tmp_path / "empty")


def test_a_users_own_class_needs_trust_or_a_pair(tmp_path):
    pair = sharing_pair()
    save(pair, tmp_path)
    with pytest.raises(RunError, match=rf"trust=\('{__name__.split('.')[0]}',\).*pass pair="):
        load(tmp_path)
    assert_same(load(tmp_path, pair=sharing_pair()), pair)


def test_a_device_that_is_not_there_is_named(tmp_path):
    save(make_pair(), tmp_path)
    with pytest.raises(RunError, match="device 'tpx'"):
        load(tmp_path, device="tpx")


def test_weights_that_do_not_fit_are_named_together_and_change_nothing(tmp_path):
    folder = RunFolder(tmp_path)
    folder.save_weights(nn.ModuleDict({"a": nn.Linear(2, 3), "b": nn.Linear(4, 1), "d": nn.Tanh()}))
    other = nn.ModuleDict({"a": nn.Linear(2, 5), "c": nn.Linear(4, 1, bias=False)})
    other["a"].register_buffer("n", torch.tensor(0))
    before = {name: value.clone() for name, value in other.state_dict().items()}
    with pytest.raises(RunError) as caught:
        folder.load_weights(other)
    for part in (
        "a.weight: (5, 2) in the pair, (3, 2) in the file",
        "missing c.weight (1, 4)",
        "missing a.n ()",
        "unexpected b.bias (1,)",
        "unexpected b.weight (1, 4)",
    ):
        assert part in str(caught.value)
    assert all(torch.equal(before[name], value) for name, value in other.state_dict().items())


def test_weights_for_another_size_do_not_fit_the_config(tmp_path):
    save(make_pair(), tmp_path)
    RunFolder(tmp_path).save_weights(make_pair(data_dim=6))
    with pytest.raises(
        RunError, match=r"does not fit the pair: model\.weight: \(5, 2\) in the pair, \(6, 2\)"
    ):
        load(tmp_path)


def test_two_tensors_for_a_shared_one_and_counts_for_weights_do_not_fit(tmp_path):
    folder, layer = RunFolder(tmp_path), nn.Linear(2, 2, bias=False)
    folder.save_weights(nn.Sequential(nn.Linear(2, 2, bias=False), nn.Linear(2, 2, bias=False)))
    with pytest.raises(RunError, match=r"0.weight and 1.weight: one tensor in the pair, but 2 in the file"):
        folder.load_weights(nn.Sequential(layer, layer))
    folder.save_weights(nn.Sequential(layer, layer))
    with pytest.raises(RunError, match=r"missing 1.weight"):
        folder.load_weights(nn.Sequential(layer, nn.Linear(2, 2, bias=False)))
    safetensors.torch.save_file({"weight": torch.ones(2, 2, dtype=torch.int64)}, tmp_path / WEIGHTS)
    with pytest.raises(RunError, match=r"weight: torch.float32 in the pair, torch.int64 in the file"):
        folder.load_weights(layer)


def test_state_that_is_no_tensor_is_refused(tmp_path):
    class Extra(nn.Module):
        def get_extra_state(self) -> dict[str, int]:
            return {"n": 1}

    with pytest.raises(RunError, match="tensors only, but the state has _extra_state"):
        RunFolder(tmp_path).save_weights(Extra())


def training_state() -> tuple[nn.Module, torch.optim.Optimizer, dict]:
    net = nn.Linear(3, 2)
    optimiser = torch.optim.Adam(net.parameters())
    net(torch.ones(1, 3)).sum().backward()
    optimiser.step()
    state = {
        "net": net.state_dict(),
        "optimiser": optimiser.state_dict(),
        "rng": torch.get_rng_state(),
        "history": [{"epoch": 0, "elbo": -1.5, "note": None, "done": False}],
        "best": (1, b"x", torch.Size([2]), torch.float64, torch.device("cpu")),
    }
    return net, optimiser, state


def test_a_checkpoint_comes_back(tmp_path):
    net, optimiser, state = training_state()
    folder = RunFolder(tmp_path)
    folder.save_checkpoint(state)
    again = folder.load_checkpoint()
    optimiser.load_state_dict(again["optimiser"])
    net.load_state_dict(again["net"])
    assert again["history"] == state["history"]
    assert again["best"] == state["best"]
    assert torch.equal(again["rng"], state["rng"])
    moment = optimiser.state[net.weight]["exp_avg"]
    assert torch.equal(moment, state["optimiser"]["state"][0]["exp_avg"])


@pytest.mark.parametrize(
    ("value", "place"),
    [
        (pd.Series([1.0]).to_numpy(), r"state\['a'\]\[0\] is of type numpy.ndarray"),
        (Path("x"), r"state\['a'\]\[0\] is of type pathlib"),
        (pd.Series([1.0]).iloc[0], r"state\['a'\]\[0\] is of type numpy.float64"),
        ({Path("x"): 1}, r"a key of state\['a'\]\[0\]"),
    ],
)
def test_a_checkpoint_that_could_not_be_read_is_not_written(tmp_path, value, place):
    with pytest.raises(RunError, match=place):
        RunFolder(tmp_path).save_checkpoint({"a": [value]})
    assert not list(tmp_path.iterdir())


def test_a_malicious_checkpoint_is_refused(tmp_path):
    for protocol in ("torch", "pickle"):
        if protocol == "torch":
            torch.save({"state": Evil(tmp_path / "hit")}, tmp_path / "checkpoint.pt")
        else:
            (tmp_path / "checkpoint.pt").write_bytes(pickle.dumps(Evil(tmp_path / "hit"), protocol=2))
        with pytest.raises(RunError, match=r"checkpoint\.pt is not a checkpoint.*refused"):
            RunFolder(tmp_path).load_checkpoint()
        assert not (tmp_path / "hit").exists()


def test_a_damaged_checkpoint_is_named(tmp_path):
    folder, path = RunFolder(tmp_path), tmp_path / "checkpoint.pt"
    with pytest.raises(RunError, match=r"has no checkpoint\.pt"):
        folder.load_checkpoint()
    folder.save_checkpoint(training_state()[2])
    truncate(path)
    with pytest.raises(RunError, match=r"checkpoint\.pt is truncated"):
        folder.load_checkpoint()
    for content in (b"", b"hello", b"PK\x03\x04" + bytes(50)):
        path.write_bytes(content)
        with pytest.raises(RunError, match=r"checkpoint\.pt is"):
            folder.load_checkpoint()
    torch.save([1], path)
    with pytest.raises(RunError, match="holds a list"):
        folder.load_checkpoint()


def test_metrics_keep_every_bit_and_the_order_of_columns(tmp_path):
    folder = RunFolder(tmp_path)
    folder.write_metrics(
        [{"epoch": 0, "elbo": 0.1 + 0.2}, {"epoch": 1, "elbo": -math.pi, "kl": torch.tensor(2.5)}]
    )
    folder.append_metrics([{"note": "a, b", "epoch": 2, "elbo": math.inf}, {"epoch": 3, "elbo": math.nan}])
    table = folder.read_metrics()
    assert list(table.columns) == ["epoch", "elbo", "kl", "note"]
    assert table["epoch"].tolist() == [0, 1, 2, 3]
    assert table["elbo"].tolist()[:3] == [0.1 + 0.2, -math.pi, math.inf]
    assert math.isnan(table["elbo"][3])
    assert table["kl"].tolist()[1] == 2.5
    assert table["kl"].isna().tolist() == [True, False, True, True]
    assert table["note"][2] == "a, b"


def test_metrics_of_nothing_and_of_something_else(tmp_path):
    folder = RunFolder(tmp_path)
    with pytest.raises(RunError, match=r"has no metrics\.csv"):
        folder.read_metrics()
    folder.append_metrics([])
    assert folder.read_metrics().empty
    (tmp_path / "metrics.csv").write_text('a,b\n1,2,3\n"')
    with pytest.raises(RunError, match=r"metrics\.csv is not a table"):
        folder.read_metrics()


def test_plain_values_only_in_the_configuration(tmp_path):
    with pytest.raises(RunError, match="plain values only"):
        RunFolder(tmp_path).write_config({"ppl_vae": "0.1.0", "fit": {"path": Path("x")}})
    RunFolder(tmp_path).write_config({"ppl_vae": "0.1.0", "fit": {"betas": (0.9, 0.999), "eps": 1e-8}})
    assert RunFolder(tmp_path).read_config()["fit"] == {"betas": [0.9, 0.999], "eps": 1e-8}


def write_everything(folder: RunFolder, number: int) -> None:
    folder.write_config({"ppl_vae": "0.1.0", "n": number})
    folder.save_weights(nn.Linear(number, 1))
    folder.save_checkpoint({"n": number})
    folder.write_metrics([{"n": number}])


@pytest.mark.parametrize("failing", ["os.replace", "os.fsync"])
def test_a_write_that_fails_leaves_the_old_files_and_no_others(tmp_path, monkeypatch, failing):
    folder = RunFolder(tmp_path)
    write_everything(folder, 1)
    before = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    assert len(before) == 4

    def fail(*args: object) -> None:
        raise OSError("disk full")

    monkeypatch.setattr(failing, fail)
    for write in (
        lambda: folder.write_config({"ppl_vae": "0.1.0", "n": 2}),
        lambda: folder.save_weights(nn.Linear(2, 1)),
        lambda: folder.save_checkpoint({"n": 2}),
        lambda: folder.append_metrics([{"n": 2}]),
    ):
        with pytest.raises(OSError, match="disk full"):
            write()
    monkeypatch.undo()
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == before


def test_an_interrupted_writer_leaves_the_old_file(tmp_path):
    def interrupted(temporary: Path) -> None:
        temporary.write_text("ne")
        raise KeyboardInterrupt

    atomic_write(tmp_path / "a.txt", lambda temporary: temporary.write_text("old"))
    with pytest.raises(KeyboardInterrupt):
        atomic_write(tmp_path / "a.txt", interrupted)
    assert [path.name for path in tmp_path.iterdir()] == ["a.txt"]
    assert (tmp_path / "a.txt").read_text() == "old"


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
@pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")
def test_a_killed_writer_leaves_the_old_file_and_its_rest_is_cleaned_later(tmp_path):
    folder = save(make_pair(), tmp_path)
    weights = (tmp_path / WEIGHTS).read_bytes()

    def killed(temporary: Path) -> None:
        temporary.write_bytes(weights[:40])
        os.kill(os.getpid(), signal.SIGKILL)

    child = os.fork()
    if child == 0:
        atomic_write(tmp_path / WEIGHTS, killed)
    _, status = os.waitpid(child, 0)
    assert os.WTERMSIG(status) == signal.SIGKILL
    (leftover,) = tmp_path.glob(".weights.tmp-*")
    assert leftover.suffix == ".safetensors"
    load(tmp_path)
    folder.save_weights(make_pair())
    folder.clean()
    assert sorted(path.name for path in tmp_path.iterdir()) == [CONFIG, WEIGHTS]


def test_the_temporary_file_is_beside_its_target_and_synced_before_the_rename(tmp_path, monkeypatch):
    order: list[str] = []
    replace, fsync = os.replace, os.fsync
    monkeypatch.setattr("os.fsync", lambda fd: (order.append("fsync"), fsync(fd))[1])
    monkeypatch.setattr("os.replace", lambda a, b: (order.append("replace"), replace(a, b))[1])
    seen: list[Path] = []
    atomic_write(
        tmp_path / "figures" / "x.png", lambda temporary: (seen.append(temporary), temporary.touch())
    )
    assert seen[0].parent == tmp_path / "figures"
    assert seen[0].suffix == ".png"
    assert order[:2] == ["fsync", "replace"]


def test_a_loaded_state_does_not_hold_the_file(tmp_path):
    folder, layer = RunFolder(tmp_path), nn.Linear(2, 2)
    folder.save_weights(layer)
    wanted: Tensor = layer.weight.detach().clone()
    folder.load_weights(layer)
    folder.save_weights(nn.Linear(2, 2))
    assert torch.equal(layer.weight, wanted)
    assert repr(folder) == f"RunFolder({str(tmp_path)!r})"
    assert runs.CHECKPOINT == "checkpoint.pt"
