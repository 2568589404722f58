"""What is no array is refused by every door that takes data, with its type and the line that converts it."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import scipy.sparse
import torch
from PIL import Image
from torch.utils.data import DataLoader, Dataset, TensorDataset

from ppl_vae import Pair, data, estimators, evaluate, fit, guides, models, nets, queries
from ppl_vae.data import DataError, DataSet, Split, from_tensors

X = torch.randn(20, 3, generator=torch.Generator().manual_seed(0))
Y = torch.arange(20) % 2


class Rows(Dataset):
    def __len__(self):
        return len(X)

    def __getitem__(self, row):
        return X[row], int(Y[row])


class OnlyX(Dataset):
    """Rows of the same shape, which numpy would stack without a word."""

    def __len__(self):
        return len(X)

    def __getitem__(self, row):
        return X[row]


REFUSED = {
    "tuple of x and y": (
        (X, Y),
        r"a tuple of 2 \(Tensor of shape \(20, 3\), Tensor of shape \(20,\)\).*Split.from_tensor\(x, y"
    ),
    "tuple of two x": ((X, X), r"is not stacked.*torch.stack\(rows\)"),
    "tuple of arrays": ((X.numpy(), X.numpy()), r"ndarray of shape \(20, 3\).*is not stacked"),
    "tuple of lists": (([1.0, 2.0], [0.0, 1.0]), "a tuple of 2.*is not stacked"),
    "list of arrays": ([X.numpy(), X.numpy()], "a list of 2.*is not stacked"),
    "list of tensors": (list(X), r"a list of 20.*torch.stack\(rows\)"),
    "ragged list": ([[1.0, 2.0], [3.0]], "rows of one length"),
    "dictionary": ({"x": X, "y": Y}, r"a dict of \['x', 'y'\].*d\['x'\]"),
    "Dataset": (Rows(), r"a torch Dataset \(Rows\).*torch.stack\(\[row\[0\] for row in dataset\]\)"),
    "Dataset of x": (OnlyX(), r"a torch Dataset \(OnlyX\)"),
    "TensorDataset": (TensorDataset(X), r"from_tensors\(\*dataset.tensors\)"),
    "DataLoader": (
        DataLoader(Rows()), r"a DataLoader gives batches.*torch.cat\(\[batch\[0\] for batch in loader\]\)"
    ),
    "scipy.sparse": (scipy.sparse.csr_matrix(X.numpy()), r"a sparse matrix \(csr_matrix\).*x.toarray\(\)"),
    "scipy.sparse array": (scipy.sparse.coo_array(X.numpy()), r"x.toarray\(\)"),
    "sparse Tensor": (X.to_sparse(), r"sparse Tensor.*x.to_dense\(\)"),
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


@pytest.mark.parametrize(
    "kind", ["DataLoader", "Dataset of x", "scipy.sparse", "masked array", "sparse Tensor"]
)
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


def test_the_lines_of_the_messages_work():
    loader, dataset = DataLoader(Rows(), batch_size=8), Rows()
    x = torch.cat([batch[0] for batch in loader])
    y = torch.cat([batch[1] for batch in loader])
    assert torch.equal(
        from_tensors(x, y, labels=True, seed=1).train.tensors()[0], from_tensors(X, seed=1).train.tensors()[0]
    )
    x = torch.stack([row[0] for row in dataset])
    y = torch.tensor([row[1] for row in dataset])
    assert torch.equal(Split.from_tensor(x, y, labels=True).tensors()[1], Y)
    assert isinstance(data.from_tensors(*TensorDataset(X, Y).tensors), DataSet)


def test_arrays_lists_and_tables_are_data_as_before():
    for given in (X.numpy(), X.tolist(), pd.DataFrame(X.numpy())):
        torch.testing.assert_close(Split.from_tensor(given).tensors()[0], X)


def test_a_split_for_an_array_is_used_as_it_is():
    with pytest.raises(DataError, match="this is a Split already"):
        from_tensors(Split.from_tensor(X))
    for ask in (queries.encode, queries.reconstruct):
        with pytest.raises(ValueError, match=r"take some of its rows, split\[:100\].tensors\(\)"):
            ask(make_pair(), Split.from_tensor(X))


def test_load_takes_a_name_or_a_path():
    for given in (X, Rows(), None, 3):
        with pytest.raises(DataError, match=r"data.from_tensors\(x\)"):
            data.load(given)
