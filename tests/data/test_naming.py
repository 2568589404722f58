"""Named arrays: of what type each is kept and given, and what is refused."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from ppl_vae import data
from ppl_vae.data import DataError, DataSet, Split, few_labels, from_tensors
from ppl_vae.data.gaps import rows_with_gaps
from ppl_vae.data.rows import HostTensor, StreamedRows, stream

X = torch.rand(12, 3, generator=torch.Generator().manual_seed(0))
Y = torch.arange(12) % 3
MASK = torch.arange(36).reshape(12, 3) % 5 > 0

TYPES = {
    "truth values": (MASK, torch.bool),
    "truth values of NumPy's": (MASK.numpy(), torch.bool),
    "bytes": (np.arange(12, dtype=np.uint8) + 200, torch.int64),
    "short whole numbers": (torch.arange(12, dtype=torch.int16), torch.int64),
    "class numbers": (Y, torch.int64),
    "unsigned": (np.arange(12, dtype=np.uint32) + 2**31, torch.int64),
    "unsigned Tensor": (torch.arange(12).to(torch.uint16), torch.int64),
    "big endian": (np.arange(12, dtype=">i4"), torch.int64),
    "a list": (list(range(12)), torch.int64),
    "float32": (X, torch.float32),
    "NumPy's float64": (X.numpy().astype(np.float64), torch.float32),
    "float64 Tensor": (X.double(), torch.float64),
    "half": (X.half(), torch.float32),
}


@pytest.mark.parametrize("kind", TYPES)
def test_an_array_keeps_its_meaning(kind):
    given, dtype = TYPES[kind]
    split = Split.from_tensors(x=X, size=given)
    assert split.names == ("x", "size")
    found = split.tensors()[1]
    assert found.dtype == dtype
    assert (
        found.tolist()
        == torch.as_tensor(np.asarray(given).astype("f8" if dtype.is_floating_point else "i8"))
        .to(dtype)
        .tolist()
    )


def test_bytes_are_scaled_in_x_alone():
    pixels = torch.arange(12, dtype=torch.uint8).reshape(12, 1) * 20
    x, again = Split.from_tensors(x=pixels, counts=pixels).tensors()
    assert torch.equal(x, pixels / 255)
    assert torch.equal(again, pixels.long())


def test_without_x_nothing_is_scaled_or_cast():
    split = Split.from_tensors(counts=torch.arange(12, dtype=torch.uint8), size=X)
    counts, size = split.tensors()
    assert (counts.dtype, counts.tolist()) == (torch.int64, list(range(12)))
    assert torch.equal(size, X)
    assert (split.shape, split.dtype) == ((), torch.int64)
    assert split.mean().item() == 5.5


def test_whole_numbers_called_y_are_labels_too():
    split = Split.from_tensors(x=X, mask=MASK, y=Y.to(torch.uint8))
    assert split.names == ("x", "mask", "y")
    assert torch.equal(split.labels, Y)
    assert few_labels(split, 2).names == ("x", "mask", "y")
    real = Split.from_tensors(x=X, y=X[:, 0])
    assert real.labels is None
    assert torch.equal(real.tensors()[1], X[:, 0])


def test_a_selection_keeps_the_rows_of_all_arrays_together():
    split = from_tensors(x=X, y=Y, mask=MASK, row=torch.arange(12), seed=3)
    assert isinstance(split, DataSet)
    for part in (*split.parts().values(), split.train[2:5], split.train.take(3), split.train.to("cpu")):
        x, y, mask, row = part.tensors()
        assert torch.equal(x, X[row])
        assert torch.equal(y, Y[row])
        assert torch.equal(mask, MASK[row])


@pytest.mark.parametrize("streamed", ["x", "mask", "both"])
def test_streamed_arrays_give_the_same_batches(streamed):
    split = Split.from_tensors(x=X, y=Y, mask=MASK)
    rows = {"x": split.rows, **split.others}
    for name in ("x", "mask") if streamed == "both" else (streamed,):
        rows[name] = stream(HostTensor(rows[name].tensor))
    other = Split(rows["x"], Y, with_labels=True, others={"mask": rows["mask"]}, naming=split.naming)
    assert not other.resident
    assert "streamed" in repr(other)
    for options in ({}, {"shuffle_generator": torch.Generator().manual_seed(1)}):
        if options:
            options["shuffle_generator"].manual_seed(1)
        expected = list(split.batches(5, **options))
        if options:
            options["shuffle_generator"].manual_seed(1)
        for found, wanted in zip(other.batches(5, **options), expected, strict=True):
            assert all(torch.equal(a, b) for a, b in zip(found, wanted, strict=True))
    again = other.in_memory()
    assert again.resident
    assert not any(isinstance(each, StreamedRows) for each in (again.rows, *again.others.values()))
    assert torch.equal(again.tensors()[2], MASK)


def test_choosing_arrays():
    split = Split.from_tensors(x=X, y=Y, mask=MASK)
    assert [len(each) for each in split.choose(["mask", "y"]).tensors()] == [12, 12]
    assert split.choose(["mask", "y"]).names == ("mask", "y")
    assert split.choose(["x"]).choose(["y", "x"]).names == ("y", "x")
    with pytest.raises(DataError, match="there is no array 'size': the data has x, y, mask"):
        split.choose(["x", "size"])


def test_two_arrays_as_before():
    """`from_tensors(x, y)` gives x alone, whatever y is; labels=True gives both."""
    for y in (Y, X[:, 0], torch.eye(12)):
        assert from_tensors(X, y).train.names == ("x",)
    assert from_tensors(X, Y, labels=True).train.names == ("x", "y")
    assert from_tensors({"x": X, "y": X[:, 0]}).train.names == ("x", "y")
    assert torch.equal(
        from_tensors(X, Y, seed=1).train.labels, from_tensors(X, Y, labels=True, seed=1).train.labels
    )


REFUSED = {
    "lengths": ({"x": X, "size": Y[:5]}, "differ in their number of rows: x 12, size 5"),
    "one number": ({"x": X, "size": np.float64(3)}, "size: one number for all rows"),
    "text": ({"x": X, "name": np.array(list("abcdefghijkl"))}, "values of type <U1 are not numbers; number"),
    "NaN": ({"x": X, "age": np.array([1.0] * 11 + [np.nan])}, "age: row 11 holds NaN"),
    "complex": ({"x": X, "wave": X.to(torch.complex64)}, "wave: complex values"),
    "too large": ({"x": X, "n": np.full(12, 2**63, np.uint64)}, "n: 9223372036854775808 is larger"),
    "no event": ({"x": X, "none": np.zeros((12, 0))}, "none: shape .* holds no data"),
    "a name with a blank": ({"x": X, "my mask": MASK}, "called 'my mask', and no argument"),
    "a number for a name": ({"x": X, 3: MASK}, "called 3, and no argument"),
    "nothing": ({}, "no arrays were given"),
    "meta": ({"x": X, "m": torch.zeros(12, device="meta")}, "m: a tensor on the device 'meta'"),
}  # fmt: skip


@pytest.mark.parametrize("kind", REFUSED)
def test_what_is_no_array_of_a_data_set(kind):
    arrays, message = REFUSED[kind]
    for door in (Split.from_tensors, from_tensors):
        with pytest.raises(DataError, match=message):
            door(arrays)


def test_an_option_is_no_array():
    with pytest.raises(DataError, match="goes in a dictionary"):
        Split.from_tensors(x=X, missing=MASK)
    assert Split.from_tensors({"x": X, "missing": MASK}).names == ("x", "missing")
    for option in ("labels", "name", "seed", "binarise", "missing", "test_fraction"):
        with pytest.raises(
            DataError, match=rf"{option} is an option .*data.from_tensors\(\{{'{option}': ...\}}\)"
        ):
            from_tensors(x=X, **{option: Y})
        assert from_tensors({"x": X, option: Y}).train.names == ("x", option)


def test_gaps_in_x_where_they_are_meant():
    gappy = torch.where(MASK, X, torch.nan)
    split = from_tensors(x=gappy, size=Y, missing=True, seed=2).train
    assert split.missing
    assert torch.equal(split.tensors()[0].isnan().sum() > 0, torch.tensor(True))
    with pytest.raises(DataError, match="x: row 0 holds NaN"):
        from_tensors(x=gappy, size=Y)
    with pytest.raises(DataError, match="age: row 0 holds NaN"):
        from_tensors(x=X, age=gappy)
    with pytest.raises(DataError, match="age: row 0 holds an infinite value"):
        from_tensors(x=X, age=torch.where(MASK, X, torch.inf), missing=True)
    other = Split.from_tensors(x=X, age=gappy, missing=True)
    assert torch.equal(rows_with_gaps(other), other.tensors()[1].isnan().any(1).nonzero()[:, 0])
    assert len(rows_with_gaps(other))


def test_parts_with_other_arrays_are_refused():
    one, other = Split.from_tensors(x=X, mask=MASK), Split.from_tensors(x=X, size=Y)
    with pytest.raises(DataError, match=r"the parts' arrays differ in name or event shape"):
        DataSet("mine", one, None, other)
    with pytest.raises(DataError, match="binarise='fixed' is for an array x"):
        from_tensors(counts=X, binarise="fixed")
    assert data.from_tensors(x=X, mask=MASK, binarise="dynamic").train.dynamic
