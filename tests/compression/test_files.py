"""Files: every bit comes back, and what cannot come back is refused in a sentence."""

from __future__ import annotations

import re
import sys
from dataclasses import replace

import numpy as np
import pytest
import torch

import ppl_vae as pv
from ppl_vae.compression import environment
from ppl_vae.compression.coder import Stack
from ppl_vae.compression.file_format import MAGIC, of_bytes, to_bytes
from tests.compression.programs import binary_vae, coins

QUIET = {"progress": False}


@pytest.fixture(scope="module")
def written(tmp_path_factory):
    pair, x = binary_vae(2, 6), coins(100, 6)
    path = tmp_path_factory.mktemp("files") / "x.bits"
    return pair, x, path, pv.compress(pair, x, path, **QUIET)


def test_the_file_is_the_data(written):
    pair, x, path, file = written
    weights = {name: each.clone() for name, each in pair.state_dict().items()}
    state = torch.get_rng_state()
    for source in (path, str(path), file):
        (again,) = pv.decompress(pair, source, **QUIET)
        assert again.dtype == x.dtype
        assert torch.equal(again, x)
    assert torch.equal(torch.get_rng_state(), state)
    assert all(torch.equal(each, weights[name]) for name, each in pair.state_dict().items())
    assert torch.get_default_dtype() == torch.float32
    assert path.stat().st_size == file.file_size
    assert pv.compress(pair, x, coders=False, **QUIET).content == file.content


def test_the_table_says_rate_bound_and_classical_coders(written):
    *_, file = written
    text = str(file)
    for line in (
        r"rate +\d\.\d{4}",
        r"-ELBO +\d\.\d+ ± ",
        "gzip",
        "bz2",
        "lzma",
        r"bytes, with a header and",
    ):
        assert re.search(line, text), text
    assert set(file.coder_rates) == {"gzip", "bz2", "lzma"}
    images = pv.compress(written[0], written[1], verify=False, **QUIET)
    assert "not verified" in str(images)


def test_damaged_files_are_refused(written, tmp_path):
    pair, _, path, file = written
    raw = path.read_bytes()
    broken = tmp_path / "broken.bits"
    for content in (
        raw[:-1],
        raw[: len(raw) // 2],
        raw[:30],
        raw + b"\0",
        raw[:200] + b"!" + raw[201:],
        MAGIC,
    ):
        broken.write_bytes(content)
        with pytest.raises(pv.compression.CompressionError, match=r"broken.bits is damaged or cut short"):
            pv.decompress(pair, broken)
    broken.write_bytes(b"")
    with pytest.raises(pv.compression.CompressionError, match="is empty"):
        pv.decompress(pair, broken)
    broken.write_bytes(b"PK something else")
    with pytest.raises(pv.compression.CompressionError, match=r"no file that pv\.compress"):
        pv.decompress(pair, broken)
    with pytest.raises(pv.compression.CompressionError, match="cannot be read: No such file"):
        pv.decompress(pair, tmp_path / "nothing")
    content = of_bytes(file.content, "file")
    words = content.words.copy()
    words[len(words) // 2] ^= 1
    wrong = to_bytes(replace(content, words=words))  # its checksum is right
    with pytest.raises(pv.compression.CompressionError, match="does not give back the data"):
        pv.decompress(pair, replace(file, content=wrong), **QUIET)


@pytest.mark.parametrize(
    ("name", "value", "said"),
    [
        ("torch", "1.0", "torch '1.0' there.*decode it with torch 1.0"),
        ("threads", 99, r"threads 99 there.*torch.set_num_threads\(99\)"),
        ("platform", "VAX", "platform 'VAX' there.*on the machine where it was written"),
        ("processor", "68000", "processor '68000'"),
        ("device", "cuda", "device 'cuda' there, 'cpu' here"),
        ("constriction", "0.1", r"constriction .0\.1. there.*decode it with constriction 0\.1"),
    ],
)
def test_files_from_elsewhere_are_refused(written, monkeypatch, name, value, said):
    pair, x, *_ = written
    there = environment.environment() | {name: value}
    monkeypatch.setattr("ppl_vae.compression.calls.environment", lambda: there)
    file = pv.compress(pair, x[:4], verify=False, coders=False, **QUIET)
    with pytest.raises(pv.compression.CompressionError, match=f"was written elsewhere: {said}"):
        pv.decompress(pair, file, **QUIET)
    assert torch.equal(pv.decompress(pair, file, anyway=True, **QUIET)[0], x[:4])  # it was written here


def test_another_thread_count_is_refused(written):
    pair, _, path, _ = written
    threads = torch.get_num_threads()
    torch.set_num_threads(threads + 1)
    try:
        with pytest.raises(pv.compression.CompressionError, match=rf"set_num_threads\({threads}\)"):
            pv.decompress(pair, path)
    finally:
        torch.set_num_threads(threads)


def test_another_pair_is_refused(written, monkeypatch):
    pair, _, path, _ = written
    with pytest.raises(pv.compression.CompressionError, match="another pair, or other weights of it"):
        pv.decompress(binary_vae(2, 6, seed=1), path)
    # the weights are the same, and the programs are not
    decoder = type(pair.model.decoder)
    forward = decoder.forward
    monkeypatch.setattr(decoder, "forward", lambda self, z: forward(self, z) + 1e-12)
    with pytest.raises(pv.compression.CompressionError, match="the same weights gave other floats"):
        pv.decompress(pair, path)


def test_a_missing_package_is_named(written, monkeypatch):
    monkeypatch.setitem(sys.modules, "constriction", None)
    for call in (lambda: pv.compress(*written[:2]), lambda: pv.decompress(written[0], written[2])):
        with pytest.raises(pv.compression.CompressionError, match=r"pip install 'ppl_vae\[compress\]'"):
            call()


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"num_samples": 0}, "num_samples must be a positive whole number"),
        ({"bits": 17}, "bits must be from 1 to 16"),
        ({"batch_size": 1.5}, "batch_size must be"),
        ({"order": "backwards"}, "order must be one of"),
        ({"seed": -1}, "seed must be"),
    ],
)
def test_options_that_are_none(written, options, said):
    with pytest.raises(ValueError, match=said):
        pv.compress(*written[:2], **options)


def test_the_stack_undoes_itself_even_when_it_is_empty():
    generator = np.random.default_rng(0)
    table = generator.random((50, 300))
    table[:, ::3] = 0.0  # no mass, and still a code
    for num_words in (1, 2, 30):
        stack = Stack.fresh(num_words, seed=num_words)
        words = stack.words()
        even, drawn = stack.pop_even(7, 10), stack.pop(table)
        stack.push(drawn, table)
        stack.push_even(even, 10)
        assert np.array_equal(stack.words(), words)
    stack.push(np.arange(50), table)
    assert np.array_equal(stack.pop(table), np.arange(50))


def test_stirred_words_are_random_and_come_back():
    """A pop from regular bits is none of a distribution's draws, and one from stirred ones is."""
    table = np.full((20_000, 16), 1 / 16)
    stack = Stack(np.tile(np.array([0, 2**31], dtype=np.uint32), 5_000))
    before = stack.words()
    stack.stir(4_000, key=7)
    counts = np.bincount(stack.pop(table), minlength=16)
    assert ((counts - 1250) ** 2 / 1250).sum() < 45  # chi square of 15 degrees: once in 13,000
    fresh = Stack(before)
    assert ((np.bincount(fresh.pop(table), minlength=16) - 1250) ** 2 / 1250).sum() > 1e4
    again = Stack(before)
    again.stir(4_000, key=7)
    again.stir(4_000, key=7, back=True)
    assert np.array_equal(again.words(), before)
    low = Stack(np.array([], dtype=np.uint32))
    low.stir(3, key=1)
    low.stir(3, key=1, back=True)
    assert not len(low.words())
