"""The command line on strings and on sequences: what it trains where no pair is given, and what it writes."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from ppl_vae import data, guides, likelihoods, models, runs
from ppl_vae.cli import main
from ppl_vae.cli.default_pair import make_pair
from ppl_vae.cli.default_sequences import is_sequences, steps_of
from ppl_vae.cli.errors import UsageError

LITTLE = ("--evaluate.num_particles", "5", "--evaluate.num_simulations", "0", "--report.num_data", "0")


def keys(length, features=3, steps=5, **more):
    x = torch.zeros(len(length), steps, features)
    x[:, :, 0] = 1
    return data.DataSet("k", *3 * [data.Split.from_tensors(x=x, length=torch.tensor(length), **more)])


@pytest.fixture(scope="module")
def strings():
    return data.load("markov_strings", num_data=40)


def test_a_run_of_strings_writes_strings(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    small = ("--load.num_data", "40", "--pair.hidden", "[4]", "--pair.latent_dim", "2")
    words = ("--data", "markov_strings", "--epochs", "1", "--run_dir", "run", "--capture", "false")
    assert main(["train", *words, *small, *LITTLE, "--report.figures", "false"]) == 0
    known = (tmp_path / "run" / "strings.txt").read_text().splitlines()
    assert known[0] == "data: reconstruction"
    alphabet = runs.load_alphabet("run")
    assert "".join(alphabet.symbols) == "abcdef"
    assert all(set(each) <= set(alphabet.symbols) for row in known[1:9] for each in row.split(": "))
    assert main(["sample", "run", "--num", "7"]) == 0
    drawn = (tmp_path / "run" / "samples.txt").read_text().splitlines()
    assert len(drawn) == 7
    assert all(set(each) <= set(alphabet.symbols) for each in drawn)


def test_strings_have_a_pair_that_writes_symbol_after_symbol(strings):
    pair = make_pair(strings, latent_dim=2, hidden=(4,))
    assert isinstance(pair.model.likelihood, likelihoods.Strings)
    assert pair.model.likelihood.num_symbols == len(strings.alphabet) == 6
    mine = make_pair(strings, latent_dim=2, likelihood=likelihoods.TransformerStrings(6, 12, hidden=8))
    assert isinstance(mine.model.likelihood, likelihoods.TransformerStrings)
    with pytest.raises(UsageError, match="markov_strings holds strings"):
        make_pair(strings, net="conv")
    with pytest.raises(UsageError, match=r"one width.*\[4, 4\]"):
        make_pair(strings, hidden=(4, 4))


def test_sequences_with_lengths_have_a_deep_markov_model():
    known = keys([5, 2])
    pair = make_pair(known, latent_dim=2, hidden=(4,))
    assert isinstance(pair.model, models.DeepMarkov)
    assert isinstance(pair.guide, guides.Smoothing)
    assert isinstance(pair.model.likelihood, likelihoods.Bernoulli)
    assert steps_of(known).shape == (7, 3)
    bias = pair.model.decoder.output_bias
    assert bias[0] > 1 > -1 > bias[1]  # the first key always sounds
    again = make_pair(known, model=pair.model, guide=pair.guide)
    torch.testing.assert_close(again.model.decoder.output_bias, bias)
    with pytest.raises(UsageError, match="come as a pair: give --guide"):
        make_pair(known, model=pair.model)


@pytest.mark.parametrize("length", [[6, 2], [5.0, 2.0], [-1, 2]])
def test_a_length_that_counts_no_steps_is_any_array(length):
    assert not is_sequences(keys(length))


def test_a_length_beside_a_table_or_an_image_is_any_array():
    for shape in ((4,), (1, 4, 4)):
        split = data.Split.from_tensors(x=torch.zeros(3, *shape), length=torch.tensor([1, 2, 3]))
        assert not is_sequences(data.DataSet("k", split, None, split))


def test_sequences_of_ones_own_by_the_command_line(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    draw = np.random.default_rng(0)
    np.savez("mine.npz", x=draw.normal(size=(40, 4, 2)), length=draw.integers(1, 5, 40))
    words = ("--data", "mine.npz", "--epochs", "1", "--run_dir", "run", "--capture", "false")
    small = ("--pair.hidden", "[4]", "--pair.latent_dim", "2", "--report.figures", "false")
    assert main(["train", *words, *small, *LITTLE]) == 0
    assert isinstance(runs.load("run").model, models.DeepMarkov)
