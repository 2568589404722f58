"""Data as other people keep it: what would be read as something else is refused, with a way out."""

from __future__ import annotations

import datetime

import numpy as np
import pandas as pd
import pytest
import torch
from scipy import sparse

from ppl_vae import data
from ppl_vae.data import DataError

ROWS = np.arange(30.0)


def test_a_sparse_matrix_that_is_a_dictionary_too():
    matrix = sparse.csr_matrix(np.diag([1.0, 2.0, 3.0])).todok()
    torch.testing.assert_close(data.as_split(matrix).tensors()[0], torch.diag(torch.tensor([1.0, 2.0, 3.0])))


@pytest.mark.filterwarnings("ignore:.*quant.*")
def test_a_quantised_tensor_is_refused():
    with pytest.raises(DataError, match=r"quantised.*x\.dequantize\(\)"):
        data.as_split(torch.quantize_per_tensor(torch.ones(4, 3), 0.1, 0, torch.qint8))


def test_the_same_rows_in_another_order_are_no_partners():
    x = pd.DataFrame({"a": ROWS, "b": ROWS})
    label = pd.Series(np.arange(30) % 2)
    shuffled = label.sample(frac=1, random_state=0)
    for given in ({"x": x, "y": shuffled}, (x, shuffled)):
        with pytest.raises(DataError, match=r"same labels in their index, in another order.*\.loc\["):
            data.as_split(given)
    with pytest.raises(DataError, match=r"y\.loc\[x\.index\]"):
        data.from_tensors(x, shuffled)
    aligned = data.as_split({"x": x, "y": shuffled.loc[x.index]}).tensors()
    assert aligned[1].tolist() == label.tolist()
    elsewhere = label.set_axis(range(100, 130))  # an index of its own says nothing of the order
    assert len(data.as_split({"x": x, "y": elsewhere})) == 30


def test_a_column_that_is_left_out_may_hold_anything():
    days = [datetime.date(2020, 1, 1)] * 30
    frame = pd.DataFrame({"when": days, "a": ROWS / 2})
    with pytest.raises(DataError, match=r"columns=\{'when': None\}"):
        data.table(frame)
    table = data.table(frame, columns={"when": None})
    assert table.shape == (1,)
    assert "left out" in str(table.schema)


@pytest.mark.parametrize("column", [np.arange(30) + 2**60, [*range(29), 2**60]], ids=["array", "list"])
def test_whole_numbers_that_would_become_one_are_refused(column):
    with pytest.raises(DataError, match=r"holds 1152921504606846\d+, and beyond 2\*\*53"):
        data.table({"identifier": column, "a": ROWS / 2})


def test_long_identifiers_of_a_file_stay_texts(tmp_path):
    path = tmp_path / "cards.csv"
    lines = [f"{2**60 + number % 3},{'uv'[number % 2]}" for number in range(30)]
    path.write_text("card,kind\n" + "\n".join(lines))
    assert [len(column.levels) for column in data.load(path).schema.columns] == [3, 2]


def test_a_text_may_go_over_several_lines(tmp_path):
    path = tmp_path / "notes.csv"
    path.write_text("note,a\n" + "\n".join(f'"one\ntwo {number % 2}",{number / 2}' for number in range(40)))
    columns = data.load(path).schema.columns
    assert columns[0].levels == ("one\ntwo 0", "one\ntwo 1")


def test_the_index_that_pandas_writes_is_no_data(tmp_path):
    path = tmp_path / "written.csv"
    pd.DataFrame({"a": ROWS / 2, "b": ROWS[::-1]}).to_csv(path)
    with pytest.raises(DataError, match=r"no name and holds the numbers of the rows.*index=False"):
        data.load(path)
    assert data.load(path, columns={"column 1": None, "b": "numeric"}).shape == (2,)
