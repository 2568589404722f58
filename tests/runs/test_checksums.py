"""One flipped bit in a file of a run is noticed, wherever it falls;
old files without checksums load as before.
"""

from __future__ import annotations

import random
import shutil
import zipfile

import pytest
import safetensors.torch
import torch
import yaml

import ppl_vae as pv
from ppl_vae.runs.folder import RunFolder
from ppl_vae.runs.safe_yaml import YamlError, read_yaml
from tests.runs.programs import contents, make_pair, train


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    folder = tmp_path_factory.mktemp("checksums") / "run"
    train(folder)
    return folder


def read(folder, name):
    """What somebody has of a file."""
    if name == "metrics.csv":
        return RunFolder(folder).read_metrics().to_dict("list")
    if name == "checkpoint.pt":
        return RunFolder(folder).load_checkpoint()
    return {**pv.load(folder).state_dict(), "config": RunFolder(folder).read_config()}


def equal(one, other):
    if isinstance(one, torch.Tensor):
        return torch.equal(one, other)
    if isinstance(one, dict):
        return list(one) == list(other) and all(equal(one[key], other[key]) for key in one)
    if isinstance(one, list | tuple):
        return len(one) == len(other) and all(map(equal, one, other))
    return one == other


@pytest.mark.parametrize("name", ["weights.safetensors", "checkpoint.pt", "config.yaml", "metrics.csv"])
def test_a_flipped_bit_is_refused_or_harmless(name, run, tmp_path):
    shutil.copytree(run, tmp_path / "run")
    path, draw = tmp_path / "run" / name, random.Random(0)
    whole, wanted = path.read_bytes(), read(run, name)
    refused: list[str] = []
    for _ in range(120):
        place, bit = draw.randrange(len(whole)), 1 << draw.randrange(8)
        path.write_bytes(whole[:place] + bytes([whole[place] ^ bit]) + whole[place + 1 :])
        try:
            assert equal(read(tmp_path / "run", name), wanted), f"byte {place}, bit {bit}"
        except pv.RunError as error:
            refused.append(str(error))
    assert len(refused) > 40
    assert all(name in message for message in refused)


def test_a_damaged_checkpoint_refuses_the_resume_and_leaves_the_run(run, tmp_path):
    shutil.copytree(run, tmp_path / "run")
    path = tmp_path / "run" / "checkpoint.pt"
    with zipfile.ZipFile(path) as archive:
        content = archive.read(next(name for name in archive.namelist() if name.endswith("data/0")))
    whole = bytearray(path.read_bytes())
    whole[whole.index(content)] ^= 1
    path.write_bytes(whole)
    before = contents(tmp_path / "run")
    with pytest.raises(pv.RunError, match=r"checkpoint\.pt is damaged"):
        train(tmp_path / "run", resume=True, epochs=3)
    assert contents(tmp_path / "run") == before


def test_a_compressed_checkpoint_is_refused_unread(run, tmp_path):
    with zipfile.ZipFile(run / "checkpoint.pt") as stored:
        members = {name: stored.read(name) for name in stored.namelist()}
    with zipfile.ZipFile(tmp_path / "checkpoint.pt", "w", zipfile.ZIP_DEFLATED) as bomb:
        for name, content in members.items():
            bomb.writestr(name, content)
    with pytest.raises(pv.RunError, match="is not a checkpoint of ppl_vae"):
        RunFolder(tmp_path).load_checkpoint()


def test_an_edited_config_says_how_it_is_accepted(run, tmp_path):
    shutil.copytree(run, tmp_path / "run")
    path = tmp_path / "run" / "config.yaml"
    text = path.read_text()
    path.write_text(text.replace("noise: 0.5", "noise: 0.25"))
    with pytest.raises(
        pv.RunError, match=r"config\.yaml.*checksum.*If the edit is your own, delete that line"
    ):
        pv.load(tmp_path / "run")
    with pytest.raises(YamlError, match="checksum"):
        read_yaml(path)
    path.write_text(path.read_text().partition("\n")[2])
    assert pv.load(tmp_path / "run").model.noise == 0.25


def test_files_without_checksums_load(run, tmp_path):
    shutil.copytree(run, tmp_path / "run")
    folder = tmp_path / "run"
    tensors = safetensors.torch.load_file(folder / "weights.safetensors")
    safetensors.torch.save_file(tensors, folder / "weights.safetensors")
    config = yaml.safe_load((folder / "config.yaml").read_text())
    (folder / "config.yaml").write_text(yaml.safe_dump(config, sort_keys=False))
    assert equal(dict(pv.load(folder).state_dict()), dict(pv.load(run).state_dict()))
    assert equal(read(folder, "metrics.csv"), read(run, "metrics.csv"))


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_weights_that_are_not_finite_are_refused(value, run, tmp_path):
    shutil.copytree(run, tmp_path / "run")
    pair = pv.load(run)
    with torch.no_grad():
        pair.model.weight[1, 0] = value
    RunFolder(tmp_path / "run").save_weights(pair)
    given = make_pair()
    before = {name: tensor.clone() for name, tensor in given.state_dict().items()}
    for load in (lambda: pv.load(tmp_path / "run"), lambda: pv.load(tmp_path / "run", pair=given)):
        with pytest.raises(pv.RunError, match=r"NaN or infinite \(model\.weight: 1 of 10\)"):
            load()
    assert equal(before, dict(given.state_dict()))
    state = RunFolder(tmp_path / "run").load_checkpoint()
    state["weights"]["model.weight"][0, 0] = value
    RunFolder(tmp_path / "run").save_checkpoint(state)
    with pytest.raises(pv.RunError, match="NaN or infinite"):
        train(tmp_path / "run", resume=True, epochs=3)


def test_a_kill_between_weights_and_metrics_leaves_both_readable(run, tmp_path):
    shutil.copytree(run, tmp_path / "run")
    old = (tmp_path / "run" / "metrics.csv").read_bytes()
    RunFolder(tmp_path / "run").save_results(make_pair(seed=4), [{"epoch": 1}])
    assert RunFolder(tmp_path / "run").read_metrics()["epoch"].tolist() == [1]
    (tmp_path / "run" / "metrics.csv").write_bytes(old)
    assert RunFolder(tmp_path / "run").read_metrics()["epoch"].tolist() == [1, 2]


def test_a_frozen_mask_may_be_infinite(tmp_path):
    module = torch.nn.Linear(2, 2)
    module.register_buffer("mask", torch.tensor([0.0, -float("inf")]))
    RunFolder(tmp_path).save_weights(module)
    RunFolder(tmp_path).load_weights(module)
    module.mask.zero_()
    with pytest.raises(pv.RunError, match="mask: 1 of 2"):
        RunFolder(tmp_path).load_weights(module)
