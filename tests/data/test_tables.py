"""Tables: kinds that are guessed and overruled, gaps, transforms and their way back, and what is refused."""

from __future__ import annotations

import math

import numpy as np
import pandas as pd
import pytest
import torch

from ppl_vae import data
from ppl_vae.data import DataError, Schema

N = 60


def frame(gaps: float = 0.0) -> pd.DataFrame:
    generator = np.random.default_rng(0)
    made = pd.DataFrame(
        {
            "price": generator.normal(700, 50, N),
            "rate": np.exp(generator.normal(-3, 1, N)),
            "visits": generator.poisson(9, N),
            "stars": generator.integers(1, 6, N),
            "size": generator.choice(["S", "M", "L"], N),
            "member": generator.random(N) < 0.5,
            "unit": ["kg"] * N,
        }
    )
    return made.mask(generator.random(made.shape) < gaps)


def kinds(schema: Schema) -> dict[str, str]:
    return {column.name: column.kind for column in schema.columns}


# What is guessed, and overruled


def test_kinds_are_guessed():
    schema = data.table(frame()).schema
    assert kinds(schema) == {
        "price": "numeric",
        "rate": "numeric",
        "visits": "count",
        "stars": "ordinal",
        "size": "category",
        "member": "category",
        "unit": "constant",
    }
    assert [column.size for column in schema] == [1, 1, 1, 5, 3, 2]
    assert schema.columns[4].levels == ("L", "M", "S")
    assert schema.columns[5].levels == (False, True)


@pytest.mark.parametrize(
    ("values", "kind"),
    [
        (list(range(0, 40, 2)) * 3, "count"),
        ([1998 + i % 20 for i in range(60)], "numeric"),
        ([0, 1] * 30, "category"),
        ([-1, 0, 1] * 20, "ordinal"),
        ([0.5, 1.5] * 30, "category"),
        (["0", "1.5", "", "7"] * 15, "numeric"),
        ([2**25, 0, 1, 5, 7, 9, 11, 13, 15, 17, 19, 21] * 5, "numeric"),
        (pd.Categorical(["a", "b", "c"] * 20, categories=["c", "a", "b"], ordered=True), "ordinal"),
        (pd.array([1, None, 3] * 20, dtype="Int64"), "category"),
    ],
)
def test_the_kind_of(values, kind):
    assert kinds(data.table(pd.DataFrame({"x": values})).schema) == {"x": kind}


def test_kinds_are_overruled():
    choices = {"visits": "count", "rate": "log", "size": ["S", "M", "L"], "member": None, "stars": "label"}
    made = data.table(frame(), columns=choices, labels=True)
    assert [column.kind for column in made.schema] == ["numeric", "log", "count", "ordinal"]
    assert made.schema.names == ("price", "rate", "visits", "size")
    assert made.schema.columns[4].levels == ("S", "M", "L")
    x, y = made.train.tensors()
    assert x.shape[1:] == (4,)
    assert set(y.tolist()) == {0, 1, 2, 3, 4}
    assert made.schema.label is not None
    assert made.schema.label.levels == (1, 2, 3, 4, 5)


def test_texts_of_digits_that_are_codes():
    columns = {"zip": ["00501", "10001", "94105"] * 10, "code": ["A1", "12", "7"] * 10}
    made = data.table(columns, columns={"code": "category"})
    assert [column.levels for column in made.schema] == [("00501", "10001", "94105"), ("12", "7", "A1")]
    x = made.schema.forward({"zip": ["94105"], "code": ["7"]})  # alone they look like numbers
    assert x.tolist() == [[2.0, 1.0]]
    assert made.schema.inverse(x)["zip"].tolist() == ["94105"]
    assert kinds(data.table(columns, columns={"zip": "numeric", "code": None}).schema)["zip"] == "numeric"
    levels = data.table({"x": [1, 2, 3] * 10}, columns={"x": ["3", "2", "1"]}).schema.columns[0].levels
    assert levels == (3, 2, 1)


def test_numbers_of_any_size_are_standardised():
    columns = {"x": [1e300 * (1 + i % 7) for i in range(40)], "y": [1e-300 * (i % 9) for i in range(40)]}
    made = data.table(columns, columns=dict.fromkeys("xy", "numeric"))
    x = made.train.tensors()[0].double()
    torch.testing.assert_close(x.square().mean(0), torch.ones(2).double(), rtol=1e-5, atol=1e-5)


def test_the_schema_prints_as_a_table():
    made = frame()
    made["size"] = made["size"].where(made.index > 3, "?")
    lines = repr(data.table(made, columns={"rate": None}).schema).splitlines()
    assert lines[0].split() == ["column", "kind", "values", "missing"]
    assert lines[2].split() == ["rate", "left", "out", "0"]
    assert lines[4].split() == ["stars", "ordinal", "1", "<", "2", "<", "3", "<", "4", "<", "5", "0"]
    assert lines[5].split() == ["size", "category", "L,", "M,", "S", "4", "as", "'?'"]


# Missing values


@pytest.mark.parametrize(
    "missing", [None, math.nan, "", "NA", "?", " n/a ", pd.NA, pd.NaT, np.float32("nan")]
)
def test_what_is_missing(missing):
    values = ["1.5", "2.5", missing, "3.5"] * 10
    marks = (*data.table({"x": ["1.5", "2.5", "4"] * 5}).schema.marks, "n/a")
    x = torch.cat([part.tensors()[0] for part in data.table({"x": values}, missing=marks).parts().values()])
    assert int(x.isnan().sum()) == 10


def test_numbers_that_stand_for_missing():
    values = [1.5, -999, 2.5, 4.0] * 10
    made = data.table({"x": values, "y": ["-999", "2", "3.5", "9"] * 10}, missing=[-999])
    assert [column.missing for column in made.schema.columns] == [10, 10]
    assert made.schema.columns[0].low == 1.5


def test_a_label_that_is_missing_is_minus_one():
    made = data.table({"x": [0.5, 1.5, 3.0] * 10, "label": ["a", None, "b"] * 10}, labels=True)
    y = torch.cat([part.tensors()[1] for part in made.parts().values()])
    assert sorted(set(y.tolist())) == [-1, 0, 1]
    assert not made.train.missing


def test_only_a_table_with_gaps_has_them():
    assert not data.table(frame()).train.missing
    gappy = data.table(frame(gaps=0.3))
    assert gappy.train.missing
    mean = gappy.train.tensors()[0].nanmean(0)
    torch.testing.assert_close(gappy.train.mean(), mean, atol=1e-6, rtol=1e-6)


# The transforms, and their way back


def test_fitted_on_the_training_part_and_inverted_to_the_users_units():
    given = frame(gaps=0.3)
    made = data.table(given, columns={"visits": "count", "rate": "log"}, seed=3)
    train = made.train.tensors()[0]
    numbers = train[:, :2].double()
    torch.testing.assert_close(numbers.nanmean(0), torch.zeros(2).double(), atol=1e-6, rtol=0)
    deviation = (numbers.square().nanmean(0)).sqrt()
    torch.testing.assert_close(deviation, torch.ones(2).double(), atol=1e-6, rtol=0)
    for split in made.parts().values():
        back = made.schema.inverse(split.tensors()[0])
        assert list(back.columns) == list(given.columns)
        # every row is one of the given table's
        for row in range(len(back)):
            same = np.ones(len(given), dtype=bool)
            for name in ("price", "rate", "visits"):
                one = float(back[name].astype("Float64").fillna(-1).iloc[row])
                same &= np.isclose(given[name].astype(float).fillna(-1), one, rtol=1e-5)
            for name in ("stars", "size", "member"):
                one = back[name].iloc[row]
                same &= given[name].isna() if pd.isna(one) else (given[name] == one).to_numpy(dtype=bool)
            assert same.any()


def test_the_way_back_of_other_rows():
    made = data.table(frame(), columns={"visits": "count"})
    x = made.schema.forward(frame())
    assert x.shape == (N, 6)
    back = made.schema.inverse(x)
    texts = {"size": object, "member": object, "unit": object}
    pd.testing.assert_frame_equal(back.astype(texts), frame().astype(texts), rtol=1e-5)
    assert made.schema.forward({name: [None] for name in made.schema.names}).isnan().all()
    many = made.schema.inverse(x.reshape(2, 30, 6))
    assert many.index.nlevels == 2
    assert len(many) == N
    means = made.schema.inverse(torch.tensor([[0.0, 0.0, 2.5, 1.4, 0.6, 0.2]]))
    assert means["visits"].tolist() == [2.5]
    assert means["stars"].tolist() == [2]
    assert means["size"].tolist() == ["M"]


def test_numbers_as_they_are_and_large_offsets():
    offset = 1_700_000_000.0
    values = [offset + i % 7 + 0.5 for i in range(N)]
    raw = data.table({"x": values, "y": [0.5 * i for i in range(N)]}, standardise=False)
    assert raw.schema.columns[1].scale == 1.0
    assert raw.train.tensors()[0][:, 1].max() > 20
    made = data.table({"time": values, "y": [0.5 * i for i in range(N)]})
    back = made.schema.inverse(made.schema.forward({"time": values, "y": [0.0] * N}))
    np.testing.assert_allclose(back["time"], values, atol=1e-5, rtol=0)  # float32 alone would be off by 60


def test_a_column_constant_in_the_training_part_is_only_centred():
    column = data.column.Column("x", "numeric").fitted(np.array([3.3] * 10))
    assert (column.loc, column.scale) == (pytest.approx(3.3), 1.0)


def test_plain_values_and_back():
    made = data.table(frame(0.2), columns={"rate": "log", "size": ["S", "M", "L"], "stars": "label"})
    again = Schema.from_plain(made.schema.plain())
    assert repr(again) == repr(made.schema)
    x = made.train.tensors()[0]
    pd.testing.assert_frame_equal(again.inverse(x), made.schema.inverse(x))
    for broken in (
        None,
        {},
        {"columns": [{"name": "x"}]},
        {"columns": [{"name": "x", "kind": "numeric", "scale": 0}]},
    ):
        with pytest.raises(DataError, match="schema"):
            Schema.from_plain(broken)


def test_other_holders_of_a_table():
    columns = {
        "a": torch.arange(20) / 3,
        "b": np.ma.masked_less(np.arange(20.0) / 2, 3.0),
        "c": ["x", "y"] * 10,
    }
    made = data.table(columns)
    assert kinds(made.schema) == {"a": "numeric", "b": "numeric", "c": "category"}
    assert made.schema.columns[1].missing == 6


# What is refused

TWO_LABELS = {"columns": {"x": "label", "y": "label"}}


@pytest.mark.parametrize(
    ("columns", "options", "message"),
    [
        ({"x": ["a", "b"] * 10}, {"columns": {"y": None}}, "columns names 'y'.*has 'x'"),
        ({"price": ["a", "b"] * 10}, {"columns": {"prise": None}}, "did you mean 'price'"),
        ({"x": ["a", "b"] * 10}, {"columns": {"x": "text"}}, "one of numeric, log, count"),
        ({"x": ["a", "b"] * 10}, {"columns": ["x"]}, "give kinds by name"),
        ({"x": ["a", "b"] * 10}, {"columns": {"x": "ordinal"}}, "order is not known.*'a', 'b'"),
        ({"x": ["a", "b"] * 10}, {"columns": {"x": ["a", "c"]}}, "row 1 holds 'b'.*none of its levels a, c"),
        ({"x": ["a", "b"] * 10}, {"columns": {"x": ["a", "a"]}}, "each of them once"),
        ({"x": ["a", "b"] * 10}, {"columns": {"x": "numeric"}}, "row 0 holds 'a'.*no number"),
        ({"x": ["a", "b"] * 10}, {"columns": {"x": None}}, "no column is left for x"),
        ({"x": [1.0, 2.5] * 10}, {"columns": {"x": "count"}}, "row 1 holds 2.5.*no count"),
        ({"x": [1.0, 0.0, 4.5] * 10}, {"columns": {"x": "log"}}, "row 1 holds 0.*no logarithm"),
        ({"x": [1, 2, "many", 4] * 10}, {}, "holds numbers, and row 2 holds 'many'.*missing="),
        ({"x": [None, ""] * 10}, {}, "column 'x' is empty: leave it out"),
        ({"x": [f"name {i}" for i in range(40)]}, {}, "40 different texts in 40 rows, as names do"),
        ({"x": list(range(100, 140))}, {}, "numbers of the rows, from 100 on"),
        ({"x": [f"{i},5" for i in range(40)]}, {}, "numbers with a comma.*decimal=','"),
        ({"x": ["1,234.5", "22,000"] * 9}, {}, "numbers with a comma"),
        ({"x": ["2020-01-31", "1.2.1999"] * 9}, {}, "holds dates, such as '2020-01-31'"),
        ({"x": ["5 %", "7%"] * 9}, {}, "a sign beside them, such as '5 %'"),
        ({"x": [1.7e308, 1.6e308, 0.5] * 9}, {}, "in other units"),
        ({"x": [1e300, -1e300, 0.5] * 9}, {"standardise": False}, "too large for float32"),
        ({"x": [1.0, math.inf] * 10}, {}, "row 1 holds an infinite value"),
        ({"x": pd.to_datetime(["2020-01-01", "2021-01-01"] * 9)}, {}, "row 0 holds a date"),
        ({"x": [[1], [2]] * 9}, {}, "'x' is a list"),
        ({"x": np.zeros((9, 2))}, {}, r"an array of shape \(9, 2\)"),
        ({"x": [1, 2], "y": [1]}, {}, "unequal lengths"),
        ({"x": [1j, 2j] * 9}, {}, "row 0 holds a complex"),
        ({}, {}, "table is empty"),
        ({"x": ["a", "b"] * 10, "y": ["a", "b"] * 10}, TWO_LABELS, "two columns are labels"),
        ({"x": [0.5, 1.5, 2.5] * 10}, {"labels": True}, "labels=True"),
    ],
)  # fmt: skip
def test_what_is_no_table_or_has_no_kind(columns, options, message):
    with pytest.raises(DataError, match=message):
        data.table(columns, **options)


def test_what_is_no_frame():
    with pytest.raises(DataError, match=r"not a ndarray: give pandas\.DataFrame"):
        data.table(np.zeros((3, 2)))
    twice = pd.DataFrame(np.zeros((3, 2)), columns=["a", "a"])
    with pytest.raises(DataError, match="one name"):
        data.table(twice)
    made = data.table(frame())
    with pytest.raises(DataError, match="no column 'rate'"):
        made.schema.forward(frame().drop(columns="rate"))
    with pytest.raises(DataError, match=r"row 0 holds 'XL'.*none of its levels L, M, S"):
        made.schema.forward(frame().assign(size="XL"))
    with pytest.raises(DataError, match=r"shape \(3, 2\).*6 columns"):
        made.schema.inverse(torch.zeros(3, 2))
