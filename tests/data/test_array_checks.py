"""Each mistake in an array or its labels gives one clear error."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from ppl_vae.data import DataError, DataSet, Split, as_split, from_tensors
from ppl_vae.data.array_checks import CHUNK, check_finite, check_unit_interval, divisor_of

NAN_ROW_3 = np.ones((5, 2), np.float32)
NAN_ROW_3[3, 1] = np.nan


@pytest.mark.parametrize(
    ("x", "message"),
    [
        (NAN_ROW_3, "row 3 holds NaN"),
        (torch.tensor([[1.0], [float("-inf")]]), "row 1 holds an infinite value"),
        (np.array([[1e300]]), "infinite value .in torch.float32"),
        (np.array([["a", "b"]]), "are not numbers"),
        (np.array([[None]]), "are not numbers"),
        (torch.zeros(3, 2, dtype=torch.complex64), "complex values"),
        (np.ones(4), r"shape \(4,\) has no event dimension"),
        (torch.tensor(1.0), "has no event dimension"),
        (np.ones((0, 3)), "holds no data"),
        (np.ones((3, 0)), "holds no data"),
    ],
)
def test_a_bad_array_is_named(x, message):
    with pytest.raises(DataError, match=message):
        Split.from_tensor(x)
    with pytest.raises(DataError, match=message):
        from_tensors(x)


@pytest.mark.parametrize(
    ("y", "message"),
    [
        (np.zeros(4), "4 labels for 5 rows"),
        (np.zeros((5, 2)), r"labels have shape \(5, 2\)"),
        (np.array([0, 1, 0.5, 1, 0]), "label 0.5 in row 2 is not a whole number"),
        (torch.tensor([0, 1, float("nan"), 1, 0]), "label nan in row 2"),
        (np.array(list("abcde")), "are not whole numbers"),
    ],
)
def test_bad_labels_are_named(y, message):
    with pytest.raises(DataError, match=message):
        Split.from_tensor(np.ones((5, 2)), y)


def test_labels_become_a_long_vector():
    for y in (np.arange(5.0), torch.arange(5, dtype=torch.int32), np.arange(5)[:, None], range(5)):
        labels = Split.from_tensor(np.ones((5, 2)), y).labels
        assert labels.dtype == torch.int64
        assert labels.tolist() == [0, 1, 2, 3, 4]


def test_rows_are_named_beyond_the_first_chunk():
    x = torch.zeros(3, CHUNK)
    x[2, 7] = 3.0
    with pytest.raises(DataError, match="row 2 holds 3,"):
        check_unit_interval(x, "x")
    x[1, 5] = torch.nan
    with pytest.raises(DataError, match="row 11 holds NaN"):
        check_finite(x, "x", first_row=10)


def test_stored_types():
    for x, stored, batch in [
        (np.ones((2, 3), bool), torch.uint8, torch.float32),
        (np.full((2, 3), 9, np.uint8), torch.uint8, torch.float32),
        (np.ones((2, 3), np.int64), torch.float32, torch.float32),
        (np.ones((2, 3), np.float64), torch.float32, torch.float32),
        (np.ones((2, 3), ">f4"), torch.float32, torch.float32),
        (torch.ones(2, 3, dtype=torch.bfloat16), torch.float32, torch.float32),
        (torch.ones(2, 3, dtype=torch.float64), torch.float64, torch.float64),
    ]:
        split = Split.from_tensor(x)
        assert split.rows.dtype == stored
        assert split.tensors()[0].dtype == split.dtype == batch


def test_uint8_images_are_divided_by_255_and_bits_are_not():
    assert divisor_of(torch.tensor([[0, 1]], dtype=torch.uint8)) == 1
    assert divisor_of(torch.tensor([[0, 1]], dtype=torch.uint8), torch.full((1, 2), 2).byte()) == 255
    assert divisor_of(torch.tensor([[0.0, 200.0]])) == 1


def test_read_only_and_reversed_arrays_are_copied():
    x = np.arange(6, dtype=np.float32).reshape(3, 2)
    x.flags.writeable = False
    assert Split.from_tensor(x[::-1]).tensors()[0].tolist() == [[4, 5], [2, 3], [0, 1]]
    assert Split.from_tensor(x).tensors()[0].tolist() == x.tolist()


@pytest.mark.parametrize("seed", [-1, 0.5, True, "a"])
def test_a_bad_seed_is_named(seed):
    with pytest.raises(DataError, match="seed must be a whole number from 0"):
        from_tensors(torch.rand(20, 2), seed=seed)


def test_as_split_takes_arrays_and_splits_and_no_data_set():
    split = Split.from_tensor(torch.rand(4, 2))
    assert as_split(split) is split
    assert len(as_split(np.ones((4, 2)))) == 4
    with pytest.raises(DataError, match=r"for example data\.test"):
        as_split(DataSet("x", split, split, split))
