"""A run's folder has one owner; what happens to it meanwhile loses nothing and is told."""

from __future__ import annotations

import os
import shutil
import stat
import subprocess
import sys
import threading
from pathlib import Path

import pytest
import torch

import ppl_vae as pv
from ppl_vae.runs.atomic import atomic_write, clean
from ppl_vae.runs.folder import RunFolder
from ppl_vae.runs.owner import owned
from ppl_vae.runs.run_error import WriteError
from ppl_vae.train.state import Training
from tests.runs.programs import contents, make_pair, train

HOLDER = """
import sys, time
from ppl_vae.runs.owner import owned
with owned(sys.argv[1]):
    print("mine", flush=True)
    time.sleep(300)
"""


def test_another_process_is_named_and_a_killed_one_does_not_block(tmp_path, pytestconfig):
    folder = tmp_path / "run"
    words = [sys.executable, "-c", HOLDER, str(folder)]
    with subprocess.Popen(words, cwd=pytestconfig.rootpath, stdout=subprocess.PIPE, text=True) as holder:
        assert holder.stdout is not None
        assert holder.stdout.readline() == "mine\n"
        message = rf"run is being written by another process \(pid {holder.pid} on .*, since .*choose another"
        with pytest.raises(pv.RunError, match=message):
            train(folder)
        with pytest.raises(pv.RunError, match=message):
            train(folder, resume=True)
        assert not (folder / "config.yaml").exists()
        holder.kill()
    assert len(train(folder, resume=True).history) == 2
    assert not (folder / ".owner.json").exists()


def test_two_threads_do_not_share_a_folder_and_one_may_enter_twice(tmp_path):
    found: list[BaseException] = []

    def enter() -> None:
        try:
            with owned(tmp_path):
                pass
        except BaseException as error:
            found.append(error)

    with owned(tmp_path), owned(str(tmp_path / ".." / tmp_path.name)):
        thread = threading.Thread(target=enter)
        thread.start()
        thread.join()
    assert isinstance(found[0], pv.RunError)
    assert "another thread of this process" in str(found[0])
    enter()
    assert len(found) == 1


def test_a_refused_run_leaves_no_folder(tmp_path):
    """Nor those above it that it made; what was there stays."""
    (tmp_path / "there").mkdir()
    with pytest.raises(RuntimeError, match="stop"), owned(tmp_path / "there" / "runs" / "a"):
        raise RuntimeError("stop")
    assert [path.name for path in tmp_path.rglob("*")] == ["there"]
    with owned(tmp_path / "runs" / "a"):
        (tmp_path / "runs" / "b").mkdir()
    assert sorted(path.name for path in tmp_path.rglob("*")) == ["b", "runs", "there"]


def after_epoch(number, action, monkeypatch):
    """Have something happen after an epoch and before it is saved."""
    finish = Training.finish_epoch

    def finished(training, row):
        finish(training, row)
        if training.epoch == number:
            action()

    monkeypatch.setattr(Training, "finish_epoch", finished)


def replaced(folder: Path) -> None:
    folder.rename(folder.with_name("renamed"))
    folder.mkdir()
    (folder / "mine.txt").write_text("somebody else's")


HARM = {
    "removed": (shutil.rmtree, "run"),
    "renamed": (lambda folder: folder.rename(folder.with_name("renamed")), "run"),
    "replaced": (replaced, "run-rescued"),
    "with its parent": (lambda folder: shutil.rmtree(folder.parent), "run"),
}


@pytest.mark.parametrize("epoch", [1, 2])
@pytest.mark.parametrize("harm", list(HARM))
def test_a_folder_that_goes_away_is_written_anew_with_all_of_the_run(harm, epoch, tmp_path, monkeypatch):
    folder = tmp_path / "runs" / "run"
    action, name = HARM[harm]
    after_epoch(epoch, lambda: action(folder), monkeypatch)
    with pytest.warns(UserWarning, match="was removed, renamed or replaced while the run wrote to it"):
        run = train(folder)
    assert run.path == folder.with_name(name)
    loaded = pv.load(run.path)
    assert all(torch.equal(value, loaded.state_dict()[key]) for key, value in run.pair.state_dict().items())
    if harm == "replaced":
        assert contents(folder) == {"mine.txt": b"somebody else's"}
    monkeypatch.undo()
    assert len(train(run.path, resume=True, epochs=3).history) == 3


def test_a_config_that_is_deleted_meanwhile_comes_back(tmp_path, monkeypatch):
    after_epoch(1, (tmp_path / "config.yaml").unlink, monkeypatch)
    train(tmp_path)
    pv.load(tmp_path)


def test_a_folder_named_otherwise_by_a_change_of_directory_is_the_same(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "elsewhere").mkdir()
    after_epoch(1, lambda: os.chdir(tmp_path / "elsewhere"), monkeypatch)
    train(Path("run"))
    pv.load(tmp_path / "run")
    assert not list((tmp_path / "elsewhere").iterdir())


@pytest.mark.parametrize("path", ["", "a\0b", 5])
def test_what_is_no_path_is_refused_before_the_first_step(path):
    with pytest.raises(pv.RunError, match="a run's folder cannot be"):
        train(path)


def test_a_file_in_the_place_of_the_folder_is_named(tmp_path):
    (tmp_path / "run").write_text("")
    with pytest.raises(pv.RunError, match="run is a file: give the folder of a run"):
        train(tmp_path / "run")


def test_leftovers_of_others_stay(tmp_path):
    (tmp_path / ".x.tmp-1").mkdir()
    (tmp_path / ".notes.tmp-1").write_text("mine")
    (tmp_path / ".weights.tmp-0123456789ab.safetensors").write_text("")
    (tmp_path / ".weights.tmp-0123456789ff.safetensors").mkdir()
    train(tmp_path, resume=True)
    clean(tmp_path)
    hidden = {path.name for path in tmp_path.iterdir() if ".tmp-" in path.name}
    assert hidden == {".x.tmp-1", ".notes.tmp-1", ".weights.tmp-0123456789ff.safetensors"}


@pytest.mark.skipif(os.name != "posix", reason="needs an umask")
@pytest.mark.parametrize("umask", [0o022, 0o077, 0o002])
def test_every_file_has_the_permissions_of_a_new_file(umask, tmp_path):
    before = os.umask(umask)
    try:
        train(tmp_path / "run")
    finally:
        os.umask(before)
    names = ("config.yaml", "weights.safetensors", "checkpoint.pt", "metrics.csv")
    assert {stat.S_IMODE((tmp_path / "run" / name).stat().st_mode) for name in names} == {0o666 & ~umask}


@pytest.mark.skipif(os.name != "posix", reason="needs a limit on the size of files")
@pytest.mark.parametrize("name", ["weights.safetensors", "checkpoint.pt", "config.yaml", "metrics.csv"])
def test_a_full_disk_names_the_file_and_keeps_the_old_one(name, tmp_path):
    import resource

    folder = RunFolder(tmp_path)
    pair = make_pair()
    writes = {
        "weights.safetensors": lambda: folder.save_weights(pair),
        "checkpoint.pt": lambda: folder.save_checkpoint({"a": torch.zeros(5000)}),
        "config.yaml": lambda: folder.write_config({"ppl_vae": "0.1.0", "x": "y" * 4000}),
        "metrics.csv": lambda: folder.write_metrics([{"a": "b" * 4000}]),
    }
    writes[name]()
    before = contents(tmp_path)
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (500, limits[1]))
    try:
        with pytest.raises(pv.RunError, match=rf"{name} cannot be written.*the file there is as it was"):
            writes[name]()
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert contents(tmp_path) == before


def test_a_write_that_fails_otherwise_keeps_its_own_error(tmp_path):
    def wrong(path: Path) -> None:
        raise KeyError("a bug")

    with pytest.raises(KeyError, match="a bug"):
        atomic_write(tmp_path / "a", wrong)
    with pytest.raises(WriteError, match="cannot be written"):
        atomic_write(tmp_path / ("a" * 300), lambda path: path.write_text(""))
    assert not list(tmp_path.iterdir())
