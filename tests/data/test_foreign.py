"""What is no array is refused by every door that takes data, with its type and the line that converts it."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from PIL import Image

from ppl_vae import Pair, data, estimators, evaluate, fit, guides, models, nets, queries
from ppl_vae.data import DataError, Split, from_tensors
from ppl_vae.data.rows import HostTensor, stream

X = torch.randn(20, 3, generator=torch.Generator().manual_seed(0))
Y = torch.arange(20) % 2


REFUSED = {
    "tuple of lists": (([1.0, 2.0], [0.0, 1.0]), "a tuple of 2.*is not stacked"),
    "list of arrays": ([X.numpy(), X.numpy()], "a list of 2.*is not stacked"),
    "list of tensors": (list(X), r"a list of 20.*torch.stack\(rows\)"),
    "ragged list": ([[1.0, 2.0], [3.0]], "rows of one length"),
    "sparse Tensor": (X.to_sparse(), r"sparse Tensor.*x.to_dense\(\)"),
    "column": (pd.Series(X[:, 0].numpy()), r"column.to_frame\(\)|has no event dimension"),
    "masked array": (np.ma.masked_less(X.numpy(), 0.0), "would lose its mask"),
    "path": (Path("digits.npz"), r"data.load\('digits.npz'\)"),
    "name": ("digits", r"data.load\('digits'\)"),
    "iterator": (iter(X), r"torch.stack\(list\(rows\)\)"),
    "picture": (Image.new("L", (8, 8)), r"one picture \(Image\)"),
    "None": (None, "an object of type NoneType"),
    "class": (Split, "the class Split is no data"),
}  # fmt: skip


def make_pair():
    return Pair(models.LinearGaussian(2, 3), guides.MeanField(nets.MLPEncoder((3,), 2, hidden=())))


@pytest.mark.parametrize("kind", REFUSED)
def test_what_is_no_array_is_refused_with_the_line_that_converts_it(kind):
    given, message = REFUSED[kind]
    for door in (from_tensors, Split.from_tensor):
        with pytest.raises(DataError, match=message):
            door(given)
    with pytest.raises(DataError, match=message):
        fit(make_pair(), estimators.ELBO(), given, epochs=1, progress=False)


@pytest.mark.parametrize("kind", ["masked array", "sparse Tensor", "picture", "path"])
def test_evaluations_and_questions_refuse_it_too(kind):
    given, message = REFUSED[kind]
    for ask in (
        lambda: evaluate.bounds(make_pair(), given),
        lambda: evaluate.bounds(make_pair(), (given,)),
        lambda: queries.encode(make_pair(), given),
        lambda: queries.sample(make_pair(), 3, like=given),
    ):
        with pytest.raises(DataError, match=message):
            ask()


def test_arrays_lists_and_tables_are_data_as_before():
    for given in (X.numpy(), X.tolist(), pd.DataFrame(X.numpy())):
        torch.testing.assert_close(Split.from_tensor(given).tensors()[0], X)


def test_a_split_for_an_array_is_used_as_it_is(monkeypatch):
    with pytest.raises(DataError, match="this is a Split already"):
        from_tensors(Split.from_tensor(X))
    streamed = Split(stream(HostTensor(X)))
    assert queries.encode(make_pair(), streamed, seed=0).means["z"].shape == (20, 2)
    monkeypatch.setattr("ppl_vae.queries.arguments._IN_MEMORY", 100)
    for ask in (queries.encode, queries.reconstruct):
        with pytest.raises(ValueError, match=r"take some of its rows, split\[:100\].tensors\(\)"):
            ask(make_pair(), streamed)
        with pytest.raises(ValueError, match=r"give one of its parts, for example data.test"):
            ask(make_pair(), from_tensors(X))


def test_load_takes_a_name_or_a_path():
    for given in (X, {"x": X}, None, 3):
        with pytest.raises(DataError, match=r"data.from_tensors\(x\)"):
            data.load(given)
