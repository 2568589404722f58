"""Tables in text files: separators, headers, gaps; and when a file is a matrix as before."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
import torch

from ppl_vae import data
from ppl_vae.data import DataError

UCI = Path(os.environ.get("PPL_VAE_DATA", "")) / "uci"
needs_uci = pytest.mark.skipif(
    not os.environ.get("PPL_VAE_DATA") or not UCI.is_dir(), reason="needs the UCI tables"
)


def write(path, text):
    path.write_text(text, encoding="utf-8")
    return path


def rows(separator=",", gap="NA"):
    lines = []
    for i in range(30):
        price = gap if i % 5 == 0 else f"{700 + 3.5 * i}"
        lines.append(separator.join([price, "red" if i % 3 else "white", str(i % 4)]))
    return "\n".join(lines) + "\n"


@pytest.mark.parametrize(
    ("separator", "suffix"), [(",", "csv"), (";", "csv"), ("\t", "tsv"), ("  ", "data"), ("|", "txt")]
)
@pytest.mark.parametrize("header", [True, False])
def test_separators_and_headers(tmp_path, separator, suffix, header):
    text = (separator.join(["price", "type", "stars"]) + "\n" if header else "") + rows(separator)
    made = data.load(write(tmp_path / f"wine.{suffix}", text))
    assert made.name == "wine"
    names = ("price", "type", "stars") if header else ("0", "1", "2")
    assert made.schema.names == names
    assert [column.kind for column in made.schema] == ["numeric", "category", "ordinal"]
    assert made.schema.columns[0].missing == 6
    assert made.schema.columns[0].marks == ("NA",)
    assert sum(len(part) for part in made.parts().values()) == 30


def test_a_header_of_which_some_names_are_numbers(tmp_path):
    text = "year,2019,2020\n" + "".join(f"{i * 0.5},{i % 3},\n{i},2,{i % 7}\n" for i in range(20))
    assert data.load(write(tmp_path / "a.csv", text)).schema.names == ("year", "2019", "2020")


def test_numbers_alone_are_a_matrix_until_a_table_is_asked_for(tmp_path):
    text = "a;b\n" + "".join(f"{700 + i % 9},{i}\n".replace(",", ";") for i in range(30))
    path = write(tmp_path / "a.csv", text)
    plain = data.load(path)
    assert plain.schema is None
    assert plain.train.tensors()[0][:, 0].min() >= 700
    for asked in (
        {"columns": {"b": "numeric"}},
        {"standardise": True, "columns": {"b": None}},
        {"missing": [-1], "columns": {"b": "count"}},
    ):
        made = data.load(path, **asked)
        assert made.schema is not None
        assert "b" not in made.schema.names or made.shape == (2,)
    raw = data.load(path, columns={"a": "numeric", "b": "numeric"}, standardise=False)
    assert torch.equal(raw.train.tensors()[0], plain.train.tensors()[0])


def test_quoted_cells_and_marks_of_ones_own(tmp_path):
    text = 'name,"a, b"\n' + "".join(f'"x, {i % 2}",{i / 2 if i % 4 else "none"}\n' for i in range(24))
    with pytest.raises(DataError, match=r"a\.csv: column 'a, b'.*line 2 holds 'none'.*missing=\['none'\]"):
        data.load(write(tmp_path / "a.csv", text))
    made = data.load(tmp_path / "a.csv", missing=["none"])
    assert made.schema.columns[0].levels == ("x, 0", "x, 1")
    assert made.schema.columns[1].missing == 6


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"binarise": "fixed"}, "this is a table"),
        ({"standardise": "yes"}, "give True or False"),
        ({"columns": {"gone": None}}, "columns names 'gone'"),
        ({"labels": True}, "has no labels"),
        ({"image_size": 4}, "image_size"),
    ],
)
def test_options_that_do_not_fit(tmp_path, options, message):
    path = write(tmp_path / "a.csv", "price,type,stars\n" + rows())
    with pytest.raises(DataError, match=message):
        data.load(path, **options)


def test_tables_are_text(tmp_path):
    with pytest.raises(DataError, match="digits is none"):
        data.load("digits", columns={})
    with pytest.raises(DataError, match=r"line 3 has 2 cells, not 3"):
        data.load(write(tmp_path / "a.csv", "1,2,x\n3,4,y\n5,6\n"), columns={})
    with pytest.raises(DataError, match="no such file"):
        data.load(tmp_path / "gone.csv", columns={})
    (tmp_path / "b.csv").write_bytes(b"a,b\n\xff\xfe,1\n")
    with pytest.raises(DataError, match="cannot be read as text"):
        data.load(tmp_path / "b.csv", columns={})


@needs_uci
def test_uci_tables():
    assert data.load(UCI / "data_banknote_authentication.txt").schema is None
    assert data.load(UCI / "winequality-red.csv").shape == (12,)
    wine = data.load(UCI / "winequality-red.csv", columns={})
    assert wine.schema.columns[-1].levels == (3, 4, 5, 6, 7, 8)
    assert wine.schema.names[0] == "fixed acidity"
    cancer = data.load(UCI / "wdbc.data", columns={"0": None, "1": "label"}, labels=True)
    assert cancer.schema.label.levels == ("B", "M")
    assert cancer.shape == (30,)
    with pytest.raises(DataError, match="1462 different texts"):
        data.load(UCI / "yeast.data")
    assert data.load(UCI / "yeast.data", columns={"0": None}).schema.columns[-1].size == 10
