"""Hostile folders: pipes, links, folders and endless files in place of a run's or a data set's,
and strange names.
"""

from __future__ import annotations

import os
import shutil
import socket
from collections import Counter
from pathlib import Path

import pytest

import ppl_vae as pv
from ppl_vae import cli, data
from tests.attacks.helpers import (
    EPOCHS,
    LENGTH,
    Ended,
    assert_none,
    forked,
    needs_fork,
    quiet_forks,
    record,
    state,
    train,
)

pytestmark = [needs_fork, quiet_forks]
MEMORY = 16 * 2**30  # of addresses: what is endless must not be read

FILES = ("config.yaml", "weights.safetensors", "checkpoint.pt", "metrics.csv", ".lock", ".owner.json")
NAMES = (
    "a b", "ü-名前-🙂", "-dash", "new\nline", "tab\t", "x" * 300, "per%cent", "[glob]*?", "'quote\"",
    "a" * 255, "\udcff\udcfe", "~", "trailing/", "../up", "a/b/c/d", "$HOME", ".hidden", ".run.tmp-1", "con:",
    "back\\slash",
)  # fmt: skip


def pipe(path: Path) -> None:
    os.mkfifo(path)


def folder(path: Path) -> None:
    path.mkdir()


def full_folder(path: Path) -> None:
    path.mkdir()
    (path / "file").write_text("x")


def nowhere(path: Path) -> None:
    path.symlink_to(path.with_name("nowhere"))


def loop(path: Path) -> None:
    path.symlink_to(path)


def zeros(path: Path) -> None:
    path.symlink_to("/dev/zero")


def empty(path: Path) -> None:
    path.touch()


def endless(path: Path) -> None:
    path.touch()
    os.truncate(path, 2**42)


def listener(path: Path) -> None:
    here = os.getcwd()
    os.chdir(path.parent)  # a socket's path is short
    try:
        with socket.socket(socket.AF_UNIX) as it:
            it.bind(path.name)
    finally:
        os.chdir(here)


PLACED = (pipe, folder, full_folder, nowhere, loop, zeros, empty, endless, listener)


def limited(action) -> Ended:
    """In a child that may not have endless memory or time."""

    def run() -> None:
        import resource

        resource.setrlimit(resource.RLIMIT_AS, (MEMORY, MEMORY))
        action()

    return forked(run, timeout=60)


def findings(ended: Ended, what: str, counts: Counter) -> list[str]:
    counts["done" if ended.done else "refused"] += 1
    return (
        [] if ended.code in (0, 1) else [f"{what}: {ended.error or f'signal {ended.signal}, {ended.code}'}"]
    )


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    folder = tmp_path_factory.mktemp("finished") / "run"
    return folder, state(train(folder).pair)


@pytest.mark.parametrize("place", PLACED, ids=lambda place: place.__name__)
def test_something_else_in_place_of_a_file(tmp_path, finished, place):
    counts, found = Counter(), []
    folder, weights = finished

    def loaded(copy: Path) -> None:
        if state(pv.load(copy)) != weights:
            raise AssertionError("other weights without a word")

    def resumed(copy: Path) -> None:
        if state(train(copy, EPOCHS, resume=True).pair) != weights:
            raise AssertionError("other weights without a word")

    pairs = [(name, action) for name in FILES for action in (loaded, resumed)]
    if not LENGTH:  # those that this action reads or writes
        pairs = [
            ("config.yaml", loaded),
            ("weights.safetensors", loaded),
            ("checkpoint.pt", resumed),
            (".lock", resumed),
        ]
        pairs.append(("metrics.csv", resumed))
    for name, action in pairs:
        copy = tmp_path / f"{name}-{action.__name__}"
        shutil.copytree(folder, copy)
        (copy / name).unlink(missing_ok=True)
        place(copy / name)
        found += findings(
            limited(lambda: action(copy)), f"{place.__name__} for {name}, {action.__name__}", counts
        )
    assert_none(found, "folders were not met well")
    record(f"{place.__name__} in place of a file", **counts)


def test_strange_names_of_folders(tmp_path, finished):
    counts, found = Counter(), []
    _, weights = finished

    def there_and_back(path) -> None:
        train(path)
        if state(pv.load(path)) != weights:
            raise AssertionError("other weights without a word")

    places = [
        *(os.path.join(tmp_path, "names", name) for name in NAMES),
        "",
        "\0",
        "a\0b",
        tmp_path / "bytes" / "é",
    ]
    for place in (pipe, nowhere, loop, zeros, empty, listener):
        place(tmp_path / place.__name__)
        places += [tmp_path / place.__name__, tmp_path / place.__name__ / "beneath"]
    for path in places if LENGTH else places[::3]:
        found += findings(limited(lambda: there_and_back(path)), f"run_dir={str(path)!r}", counts)
    assert_none(found, "names were not met well")
    record("strange names of folders", **counts)


@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() == 0, reason="root may write everywhere")
def test_folders_without_permission(tmp_path, finished):
    counts, found = Counter(), []
    for mode in (0o000, 0o444, 0o555):
        copy = tmp_path / f"{mode:o}"
        shutil.copytree(finished[0], copy)
        copy.chmod(mode)
        for action in (
            lambda: pv.load(copy),
            lambda: train(copy, EPOCHS + 1, resume=True),
            lambda: train(copy / "x"),
        ):
            found += findings(limited(action), f"mode {mode:o}", counts)
        copy.chmod(0o755)
    assert_none(found, "folders were not met well")
    record("folders without permission", **counts)


@pytest.mark.parametrize("suffix", [".png", ".npz", ".npy", ".csv", ""])
def test_data_that_is_something_else(tmp_path, suffix):
    """As the file itself, and as one among the images of a folder; from Python, and from the command line."""
    counts, found = Counter(), []

    def by_command(path: Path) -> None:
        code = cli.main(["train", "--data", str(path), "--epochs", "1", "--run_dir", str(tmp_path / "run")])
        if code not in (0, 1, 2):
            raise AssertionError(f"exit code {code}")

    for place in PLACED:
        path = tmp_path / place.__name__ / f"a{suffix}"
        path.parent.mkdir()
        place(path)
        for what in (path, path.parent) if LENGTH else (path,):
            found += findings(
                limited(lambda: data.load(str(what))), f"data.load of {place.__name__}{suffix}", counts
            )
    found += findings(
        limited(lambda: by_command(tmp_path / "pipe" / f"a{suffix}")), f"train on a pipe{suffix}", counts
    )
    assert_none(found, "data were not met well")
    record(f"data that is something else, {suffix or 'no suffix'}", **counts)
