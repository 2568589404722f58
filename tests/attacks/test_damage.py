"""Damaged files of a run: refused by name, or what is read from them is right to the last bit."""

from __future__ import annotations

import contextlib
import io
import random
import shutil
from collections import Counter
from pathlib import Path

import numpy as np
import pytest

import ppl_vae as pv
from ppl_vae import cli
from ppl_vae.runs.folder import RunFolder
from tests.attacks.helpers import EPOCHS, X, assert_none, outcome, record, state, times, train


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    """A finished run, and what it holds."""
    folder = tmp_path_factory.mktemp("finished") / "run"
    run = train(folder)
    return folder, state(run.pair), RunFolder(folder).read_metrics().drop(columns="seconds")


def one_bit(content: bytearray, choose: random.Random) -> bytearray:
    content[choose.randrange(len(content))] ^= 1 << choose.randrange(8)
    return content


def some_bytes(content: bytearray, choose: random.Random) -> bytearray:
    start = choose.randrange(len(content))
    for place in range(start, min(len(content), start + choose.randint(1, 64))):
        content[place] = choose.randrange(256)
    return content


def cut(content: bytearray, choose: random.Random) -> bytearray:
    return content[: choose.randrange(len(content))]


def zeros(content: bytearray, choose: random.Random) -> bytearray:
    """A hole, as after a power cut."""
    start = choose.randrange(len(content)) // 512 * 512
    size = len(content[start : start + 512])
    content[start : start + size] = bytes(size)
    return content


def longer(content: bytearray, choose: random.Random) -> bytearray:
    return content + choose.randbytes(choose.randint(1, 100))


def missing_piece(content: bytearray, choose: random.Random) -> bytearray:
    start = choose.randrange(len(content))
    return content[:start] + content[start + choose.randint(1, 32) :]


def doubled(content: bytearray, choose: random.Random) -> bytearray:
    start = choose.randrange(len(content))
    return content[:start] + content[max(0, start - 16) :]


DAMAGES = (one_bit, one_bit, one_bit, some_bytes, cut, zeros, longer, missing_piece, doubled)


def damaged(finished: Path, target: Path, choose: random.Random) -> tuple[str, bool]:
    """A copy with one file damaged; what was done, and whether the file is another now."""
    shutil.rmtree(target, ignore_errors=True)
    shutil.copytree(finished, target)
    names = sorted(path.name for path in target.iterdir() if path.stat().st_size)
    path, damage = target / choose.choice(names), choose.choice(DAMAGES)
    before = path.read_bytes()
    path.write_bytes(damage(bytearray(before), choose))
    return f"{damage.__name__} in {path.name}", path.read_bytes() != before


def test_a_damaged_file_is_refused_or_read_right(tmp_path, finished):
    folder, weights, history = finished
    choose, found, counts = random.Random(4), [], Counter()
    trials = times(120, 5000)
    for trial in range(trials):
        copy = tmp_path / "run"
        what, other = damaged(folder, copy, choose)
        counts["damaged"] += other
        for name, action in (
            ("load", lambda: pv.load(copy)),
            ("metrics", lambda: RunFolder(copy).read_metrics()),
        ):
            result, bad = outcome(action)
            counts["refused"] += result is None
            if bad:
                found.append(f"{trial}: {what}, {name}: {bad}")
            if name == "load" and result is not None and state(result) != weights:
                found.append(f"{trial}: {what}: loaded other weights without a word")
            if (
                name == "metrics"
                and result is not None
                and not history.equals(result.drop(columns="seconds"))
            ):
                found.append(f"{trial}: {what}: read other metrics without a word")
        if trial % 4 == 0:
            run, bad = outcome(lambda: train(copy, EPOCHS, resume=True))
            counts["resumed"] += run is not None
            if bad:
                found.append(f"{trial}: {what}, resume: {bad}")
            if run is not None and state(run.pair) != weights:
                found.append(f"{trial}: {what}: resumed to other weights without a word")
        if trial % 100 == 99 or trial == trials - 1:
            assert_none(found, "damaged files were not met well")
            record("damaged files", **counts, wrong_without_a_word=0, raw_errors=0)


def test_the_command_line_meets_damaged_files(tmp_path, finished):
    """`ppl-vae evaluate`: one line and exit code 1, or the number of the undamaged run."""
    folder, *_ = finished
    choose, found, counts = random.Random(5), [], Counter()
    data = tmp_path / "data.npz"
    np.savez(data, train=X.numpy(), test=X.numpy()[:20])
    options = ["--data", str(data), "--evaluate.num_particles", "50", "--report.figures", "false"]
    options += ["--report.num_data", "0", "--progress", "false"]
    right = command(["evaluate", str(folder), *options], tmp_path)
    assert right[0] == 0, right
    for trial in range(times(8, 300)):
        copy = tmp_path / "run"
        what, _ = damaged(folder, copy, choose)
        code, said, errors = command(["evaluate", str(copy), *options], tmp_path)
        counts[f"exit code {code}"] += 1
        if "Traceback" in errors or "bug of ppl_vae" in errors or code not in (0, 1):
            found.append(f"{trial}: {what}: exit code {code}: {errors[-500:]}")
        if code == 0 and said != right[1]:
            found.append(f"{trial}: {what}: other numbers without a word: {said}")
        assert_none(found, "damaged files were not met well")
        record("damaged files on the command line", **counts)


def command(words: list[str], folder: Path) -> tuple[int, str, str]:
    """A command's exit code, and what it prints."""
    with contextlib.chdir(folder), contextlib.redirect_stdout(io.StringIO()) as out:
        with contextlib.redirect_stderr(io.StringIO()) as errors:
            code = cli.main(words)
    return code, out.getvalue(), errors.getvalue()
