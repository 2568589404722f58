"""What holds data elsewhere is taken, with its very values, or refused with the line that converts it."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
import scipy.sparse
import torch
import xarray
from torch.utils.data import (
    DataLoader,
    Dataset,
    IterableDataset,
    Subset,
    TensorDataset,
    WeightedRandomSampler,
    default_collate,
)

from ppl_vae import data
from ppl_vae.data import DataError, Split, as_split, from_tensors

X = torch.randn(20, 3, generator=torch.Generator().manual_seed(0))
Y = torch.arange(20) % 2
MASK = X > 0
COLUMNS = ["a", "b", "c"]


class Rows(Dataset):
    """A map-style data set whose rows are what `row` makes of a number."""

    def __init__(self, row, count=20):
        self.row, self.count = row, count

    def __len__(self):
        return self.count

    def __getitem__(self, number):
        return self.row(number)


class Endless(IterableDataset):
    def __iter__(self):
        return iter(X)


def frame():
    return pd.DataFrame(X.numpy(), columns=COLUMNS)


def polars_frame():
    return pytest.importorskip("polars").DataFrame({name: X[:, i].numpy() for i, name in enumerate(COLUMNS)})


def arrow_table():
    return pytest.importorskip("pyarrow").table({name: X[:, i].numpy() for i, name in enumerate(COLUMNS)})


def dataset(**variables):
    return xarray.Dataset(variables)


TAKEN = {
    "tuple": (lambda: (X, Y), {"x": X, "y": Y}),
    "tuple of NumPy": (lambda: (X.numpy(), Y.numpy()), {"x": X, "y": Y}),
    "tuple of a frame and a column": (lambda: (frame(), pd.Series(Y.numpy())), {"x": X, "y": Y}),
    "dictionary": (lambda: {"mask": MASK, "x": X}, {"mask": MASK, "x": X}),
    "TensorDataset": (lambda: TensorDataset(X, Y), {"x": X, "y": Y}),
    "Dataset of x": (lambda: Rows(lambda n: X[n]), {"x": X}),
    "Dataset of x and y": (lambda: Rows(lambda n: (X[n], int(Y[n]))), {"x": X, "y": Y}),
    "Dataset of NumPy": (lambda: Rows(lambda n: [X[n].numpy(), np.int64(Y[n])]), {"x": X, "y": Y}),
    "Dataset of dictionaries": (lambda: Rows(lambda n: {"x": X[n], "mask": MASK[n]}), {"x": X, "mask": MASK}),
    "Subset": (lambda: Subset(TensorDataset(X, Y), range(5)), {"x": X[:5], "y": Y[:5]}),
    "DataLoader": (lambda: DataLoader(TensorDataset(X, Y), batch_size=7, shuffle=True), {"x": X, "y": Y}),
    "DataLoader in order": (lambda: DataLoader(Rows(lambda n: X[n]), batch_size=3, drop_last=True), {"x": X}),
    "DataLoader without batches": (lambda: DataLoader(Rows(lambda n: X[n]), batch_size=None), {"x": X}),
    "pandas": (frame, {"x": X}),
    "Polars": (polars_frame, {"x": X}),
    "Arrow": (arrow_table, {"x": X}),
    "pandas, nullable": (lambda: frame().convert_dtypes(), {"x": X}),
    "CSR matrix": (lambda: scipy.sparse.csr_matrix(X.numpy()), {"x": X}),
    "COO array": (lambda: scipy.sparse.coo_array(X.numpy().astype("f8")), {"x": X}),
    "CSC beside a mask": (lambda: {"x": scipy.sparse.csc_matrix(X.numpy()), "mask": MASK}, {"x": X, "mask": MASK}),
    "a sparse mask": (lambda: {"x": X, "mask": scipy.sparse.csr_array(MASK.numpy())}, {"x": X, "mask": MASK}),
    "a tuple with a sparse matrix": (lambda: (scipy.sparse.csr_array(X.numpy()), Y), {"x": X, "y": Y}),
    "DataArray": (lambda: xarray.DataArray(X.numpy(), dims=("cell", "gene")), {"x": X}),
    "xarray": (lambda: dataset(y=("cell", Y.numpy()), x=(("cell", "gene"), X.numpy())), {"y": Y, "x": X}),
    "xarray, turned": (lambda: dataset(x=(("cell", "gene"), X.numpy()), mask=(("gene", "cell"), MASK.numpy().T)),
                       {"x": X, "mask": MASK}),
}  # fmt: skip


@pytest.mark.parametrize("kind", TAKEN)
def test_what_holds_data_gives_its_values(kind):
    make, expected = TAKEN[kind]
    split = as_split(make())
    assert split.names == tuple(expected)
    for found, wanted in zip(split.tensors(), expected.values(), strict=True):
        assert found.dtype == wanted.dtype
        assert torch.equal(found, wanted)
    if len(split) == 20:
        parts = from_tensors(make(), seed=3)
        assert (len(parts.train), parts.train.names) == (14, split.names)


def test_a_frames_columns_are_remembered_and_its_bytes_are_no_pixels():
    assert as_split(frame()).naming.columns == ("a", "b", "c")
    ages = pd.DataFrame({"age": np.arange(200, 220).astype(np.uint8), "old": MASK[:, 0].numpy()})
    (x,) = as_split(ages).tensors()
    assert torch.equal(x, torch.stack([torch.arange(200.0, 220.0), MASK[:, 0].float()], 1))
    assert torch.equal(Split.from_tensor(ages).tensors()[0], x)


def test_sparse_counts_are_never_scaled_and_stay_sparse():
    counts = scipy.sparse.random(50, 400, 0.05, random_state=0, data_rvs=lambda n: np.arange(n) % 200 + 1)
    split = as_split(counts.astype(np.uint8))
    assert split.rows.source.matrix.nnz == counts.nnz
    assert torch.equal(split.tensors()[0], torch.from_numpy(counts.toarray()).float())
    (batch,) = split.batch(torch.tensor([7, 0, 7]))
    assert torch.equal(batch, torch.from_numpy(counts.toarray()[[7, 0, 7]]).float())
    again = as_split({"counts": counts.astype(np.uint8)})
    assert again.tensors()[0].dtype == torch.int64
    assert split.in_memory().resident


def random_row(number):
    return X[number] + torch.randn(3)


REFUSED = {
    "an iterable Dataset": (Endless, r"used up by reading.*torch.stack\(list\(dataset\)\)"),
    "a loader of one": (lambda: DataLoader(Endless()), "used up by reading"),
    "a collate_fn": (lambda: DataLoader(TensorDataset(X), collate_fn=lambda rows: default_collate(rows)),
                     r"collate_fn \(<lambda>\).*torch.cat\(\[batch\[0\] for batch in loader\]\)"),
    "a sampler": (lambda: DataLoader(TensorDataset(X), sampler=WeightedRandomSampler([1.0] * 20, 20)),
                  r"a WeightedRandomSampler, which chooses or weighs.*Subset\(loader.dataset, indices\)"),
    "rows drawn at random": (lambda: Rows(random_row), "is another at each reading: leave the random"),
    "rows of different shapes": (lambda: Rows(lambda n: X[0, : 1 + n % 2]), r"of row 1 is \(2,\).*pad or resize"),
    "rows of text": (lambda: Rows(lambda n: (X[n], "cat")), "row 0, field 1 is no tensor but str"),
    "too many rows": (lambda: Rows(lambda n: X[0], 2**40), "does not fit in memory.*open_memmap"),
    "an empty Dataset": (lambda: Rows(lambda n: X[n], 0), r"\(Rows\) is empty"),
    "a frame with text": (lambda: frame().assign(kind="red"), r"column 'kind' is no numbers.*data.table\(frame\)"),
    "a frame with gaps": (lambda: frame().assign(b=np.nan), r"column 'b' lacks values: data.table\(frame\)"),
    "a frame with nulls": (lambda: frame().assign(b=pd.array([None] * 20, "Int64")), "column 'b' lacks values"),
    "a frame of categories": (lambda: frame().assign(b=pd.Categorical(["u"] * 20)), "column 'b' is no numbers"),
    "a frame of dates": (lambda: frame().assign(b=pd.Timestamp("2020-01-01")), "column 'b' is no numbers"),
    "an empty frame": (lambda: frame()[:0], "holds no data"),
    "two columns of one name": (lambda: frame().rename(columns={"a": "b"}), "two columns of one name"),
    "a lazy frame": (lambda: polars_frame().lazy(), r"give frame.collect\(\)"),
    "one column": (lambda: frame()["a"], r"column.to_frame\(\)"),
    "a sparse NaN": (lambda: scipy.sparse.csr_matrix(np.array([[0.0, 1], [np.nan, 0]])), "row 1 holds NaN"),
    "a sparse complex": (lambda: scipy.sparse.csr_matrix(X.numpy() * 1j), "are not numbers"),
    "xarray with another dim": (lambda: dataset(x=(("cell", "gene"), X.numpy()), long=("gene", np.ones(3))),
                                r"'long' has the dims \('gene',\).*leave it out, ds\[\['x'\]\]"),
    "xarray of nothing": (dataset, "without data variables"),
    "lists": ([X, X], "a list of 2"),
}  # fmt: skip


@pytest.mark.parametrize("kind", REFUSED)
def test_what_is_not_taken_is_refused_with_the_way_out(kind):
    make, message = REFUSED[kind]
    given = make() if callable(make) else make
    with pytest.raises(DataError, match=message):
        as_split(given)
    with pytest.raises(DataError, match=message):
        from_tensors(given)


def test_a_frame_with_gaps_where_they_are_meant():
    gappy = frame().assign(b=pd.array([None] * 10 + [2] * 10, "Int64"))
    (x,) = as_split(gappy, missing=True).tensors()
    assert x[:, 1].isnan().tolist() == [True] * 10 + [False] * 10
    assert torch.equal(x[:, 0], X[:, 0])


def cells():
    anndata = pytest.importorskip("anndata")
    obs = pd.DataFrame(
        {
            "size": np.arange(20),
            "batch": pd.Categorical(["u", "v"] * 10, categories=["v", "u"]),
            "name": [f"cell {n}" for n in range(20)],
            "age": [np.nan] + [1.5] * 19,
            "n genes": np.arange(20),
            "doublet": MASK[:, 0].numpy(),
        },
        index=[str(n) for n in range(20)],
    )
    counts = (X.abs() * 5).round()
    return anndata.AnnData(
        scipy.sparse.csr_matrix(X.numpy()), obs=obs, layers={"counts": counts.numpy()}
    ), counts


def test_an_anndata_gives_its_x_and_what_is_known_of_its_cells():
    adata, counts = cells()
    split = as_split(adata)
    assert split.names == ("x",)
    assert not split.resident
    assert split.held == ("x", "size", "batch", "name", "doublet", "counts")
    x, batch, size, layer, doublet = split.choose(["x", "batch", "size", "counts", "doublet"]).tensors()
    assert torch.equal(x, X)
    assert torch.equal(batch, torch.tensor([1, 0] * 10))  # in the order of the categories
    assert torch.equal(size, torch.arange(20))
    assert torch.equal(layer, counts)
    assert torch.equal(doublet, MASK[:, 0])
    assert split.naming.columns == ("0", "1", "2")


def test_why_a_column_of_an_anndata_is_not_given():
    from tests.data.test_selection import pair_of

    adata, _ = cells()
    for model, message in (
        (lambda x, age: None, "as 'age' is left out: 1 of its values are missing"),
        (lambda x, weight: None, "what is missing is weight"),
    ):
        with pytest.raises(DataError, match=message):
            data.for_pair(as_split(adata), pair_of(model))
    del adata.X
    with pytest.raises(DataError, match=r"adata.X = adata.layers\['counts'\]"):
        as_split(adata)


def test_columns_by_name_are_offered_where_a_program_names_them():
    from tests.data.test_selection import pair_of

    with pytest.raises(
        DataError, match=r"columns of the table are one array.*\{'a': frame\['a'\], 'b': frame\['b'\]\}"
    ):
        data.for_pair(as_split(frame()), pair_of(lambda a, b: None))
    by_name = data.for_pair(as_split({name: frame()[name] for name in "ab"}), pair_of(lambda a, b: None))
    assert torch.equal(by_name.tensors()[1], X[:, 1])


def test_what_only_looks_like_something_else_is_not_taken_for_it():
    with pytest.raises(DataError, match="is no array of numbers"):
        as_split(SimpleNamespace(X=X, obs=None, dims=3))
