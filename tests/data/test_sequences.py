"""Sequences by name, alphabets, and the hidden Markov chain with its evidence."""

from __future__ import annotations

import io
import itertools
import json
import os
import urllib.request
from pathlib import Path

import pytest
import torch

from ppl_vae.data import LETTERS, Alphabet, DataError, MissingDataError, load, markov_truth, sequences
from ppl_vae.data.markov import LENGTH

REAL = Path(os.environ.get("PPL_VAE_DATA", "no such folder")) / "sequences"
needs_sequences = pytest.mark.skipif(not REAL.is_dir(), reason="PPL_VAE_DATA holds no sequences")
PIECES = {
    "train": [[[21, 60], [], [108]], [[60]]],
    "valid": [[[61], [62]]],
    "test": [[[63], [64], [65], [66]], [[70]]],
}


@pytest.fixture
def root(tmp_path):
    folder = tmp_path / "sequences"
    folder.mkdir()
    (folder / "jsb_chorales_quarter.json").write_text(json.dumps(PIECES))
    (folder / "names.txt").write_text("ava\nbo\nava\n" + "".join(f"{a}{b}\n" for a in "abcde" for b in "xyz"))
    return tmp_path


def test_chorales_are_keys_and_lengths(root):
    chorales = load("chorales", root=root)
    assert chorales.shape == (4, 88)
    assert chorales.train.names == ("x", "length")
    x, length = chorales.train.tensors()
    assert length.tolist() == [3, 1]
    assert length.dtype == torch.int64
    assert x.dtype == torch.float32
    assert x[0].nonzero().tolist() == [[0, 0], [0, 39], [2, 87]]
    assert x.sum() == 4
    assert chorales.test.tensors()[1].tolist() == [4, 1]


def test_names_are_letters_and_each_is_there_once(root):
    names = load("names", root=root)
    written = [name for part in names.parts().values() for name in LETTERS.decode(part.tensors()[0])]
    assert sorted(written) == sorted({"ava", "bo", *(a + b for a in "abcde" for b in "xyz")})
    assert names.shape == (4,)
    assert names.train.tensors()[0].max() <= 26


@pytest.mark.parametrize("name", ["chorales", "names"])
def test_what_is_not_there_is_downloaded_once(name, root, tmp_path, monkeypatch):
    kept = {each.name: each.read_bytes() for each in (root / "sequences").iterdir()}
    asked = []

    def answer(address, timeout):
        asked.append(address)
        wanted = "jsb_chorales_quarter.json" if address == sequences.CHORALES else "names.txt"
        return io.BytesIO(kept[wanted])

    monkeypatch.setattr(urllib.request, "urlopen", answer)
    empty = tmp_path / "empty"
    shapes = [load(name, root=empty).shape for _ in range(2)]
    assert shapes == [load(name, root=root).shape] * 2
    assert len(asked) == 1
    assert len(list((empty / "sequences").iterdir())) == 1


@pytest.mark.parametrize("name", ["chorales", "names"])
def test_a_failed_download_says_where_the_file_is_expected(name, tmp_path, monkeypatch):
    def away(address, timeout):
        raise OSError("host is away")

    monkeypatch.setattr(urllib.request, "urlopen", away)
    with pytest.raises(
        MissingDataError, match=r"host is away\)\. Copy it there, or set PPL_VAE_DATA"
    ) as caught:
        load(name, root=tmp_path)
    assert str(tmp_path / "sequences") in str(caught.value)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("name", "file", "content"),
    [
        ("chorales", "jsb_chorales_quarter.json", '{"train": [[[21'),
        ("chorales", "jsb_chorales_quarter.json", '{"train": [[[21]]]}'),
        ("chorales", "jsb_chorales_quarter.json", json.dumps({**PIECES, "test": [[[12]]]})),
        ("names", "names.txt", "ava\nJosé\n"),
        ("names", "names.txt", ""),
    ],
)
def test_damaged_files_are_named(name, file, content, root):
    (root / "sequences" / file).write_text(content)
    with pytest.raises(DataError, match=rf"{file} .*remove it, and it is downloaded anew"):
        load(name, root=root)


def test_sequences_have_no_image_size(root):
    for name in ("chorales", "names", "markov_strings"):
        with pytest.raises(DataError, match="sequences, which have no image_size"):
            load(name, image_size=8, **({} if name == "markov_strings" else {"root": root}))


@needs_sequences
def test_the_real_ones():
    chorales = load("chorales", root=REAL.parent)
    sizes = {name: (len(part), int(part.tensors()[1].sum())) for name, part in chorales.parts().items()}
    assert sizes == {"train": (229, 13_807), "valid": (76, 4_602), "test": (77, 4_725)}
    assert chorales.shape == (160, 88)
    names = load("names", root=REAL.parent)
    assert sum(len(part) for part in names.parts().values()) == 29_494
    assert names.shape == (16,)


# Alphabets


def test_an_alphabet_of_tokens():
    tokens = Alphabet.of([("Cl", "C"), ("Br",)])
    assert (len(tokens), tokens.symbols) == (3, ("Br", "C", "Cl"))
    x = tokens.encode([("Cl", "C"), (), ("Br",)], length=4)
    assert x.tolist() == [[3, 2, 0, 0], [0, 0, 0, 0], [1, 0, 0, 0]]
    assert tokens.decode(x.float()) == ["ClC", "", "Br"]
    assert tokens.decode([[1, 0, 2]]) == ["Br"]  # nothing comes after an end


def test_what_no_alphabet_can_write_is_named():
    with pytest.raises(DataError, match="string 1, 'Bo': 'B' is no symbol"):
        LETTERS.encode(["ava", "Bo"])
    with pytest.raises(DataError, match="string 0 has 3 symbols, and 3 leave no room for its end"):
        LETTERS.encode(["ava"], length=3)
    for symbols in ("", "aa"):
        with pytest.raises(DataError, match="one symbol or more, each once"):
            Alphabet(symbols)


# The hidden Markov chain


def test_the_forward_algorithm_sums_over_all_paths():
    truth = markov_truth(3)
    states = range(len(truth.first))
    for string in ([1], [2, 1], [6, 3, 3], [4, 5, 6, 1]):
        total = 0.0
        for path in itertools.product(states, repeat=len(string)):
            p = truth.first[path[0]] * truth.emit[path[0], string[0] - 1]
            for before, now, symbol in zip(path, path[1:], string[1:]):
                p = p * truth.move[before, now] * truth.emit[now, symbol - 1]
            total += p * truth.move[path[-1], -1]
        row = torch.tensor([[*string, *[0] * (7 - len(string))]])
        torch.testing.assert_close(truth.log_prob(row).exp()[0], total)


def test_the_evidences_of_all_strings_sum_to_one():
    width = 4
    rows = torch.tensor(
        [
            [*string, *[0] * (width - size)]
            for size in range(1, width + 1)
            for string in itertools.product(range(1, 7), repeat=size)
        ]
    )
    torch.testing.assert_close(markov_truth().log_prob(rows).exp().sum().item(), 1.0)


def test_strings_come_as_often_as_the_chain_says():
    strings = load("markov_strings", num_data=20_000, seed=5)
    x = torch.cat([part.tensors()[0] for part in strings.parts().values()])
    short = torch.tensor(
        [[*s, *[0] * (LENGTH - len(s))] for n in (1, 2) for s in itertools.product(range(1, 7), repeat=n)]
    )
    count = (x[:, None] == short).all(-1).sum(0)
    p = markov_truth(5).log_prob(short).exp()
    error = (count / len(x) - p) / (p * (1 - p) / len(x)).sqrt()
    assert error.abs().max() < 4.5
    states = strings.train.factors
    assert ((states >= 0) == (strings.train.tensors()[0] > 0)).all()
