"""How rows are divided and binarised: disjoint, exhaustive, by the seed, and nobody's generator moves."""

from __future__ import annotations

import random

import numpy as np
import pytest
import torch

from ppl_vae.data import DataError, DataSet, Split, from_tensors, table
from ppl_vae.data.dataset import Loaded, Part, assemble
from ppl_vae.data.division import Division
from ppl_vae.data.rows import HostTensor, ResidentRows, stream

ROWS = torch.arange(100.0)[:, None].expand(100, 2) / 100  # the value tells the row


def rows_of(split: Split) -> list[int]:
    return (split.tensors()[0][:, 0] * 100).round().int().tolist()


def test_parts_are_disjoint_and_exhaustive():
    data = from_tensors(ROWS, valid_fraction=0.15, test_fraction=0.25)
    parts = [rows_of(part) for part in (data.train, data.valid, data.test)]
    assert [len(part) for part in parts] == [60, 15, 25]
    assert sorted(row for part in parts for row in part) == list(range(100))


def test_the_seed_divides():
    first, again, other = (from_tensors(ROWS, seed=seed) for seed in (0, 0, 1))
    assert rows_of(first.train) == rows_of(again.train)
    assert rows_of(first.test) == rows_of(again.test)
    assert rows_of(first.test) != rows_of(other.test)


def test_the_test_part_does_not_depend_on_valid_fraction():
    x = torch.rand(200, 5)
    small, large = (from_tensors(x, valid_fraction=share, binarise="fixed").test for share in (0.05, 0.4))
    assert torch.equal(small.tensors()[0], large.tensors()[0])


@pytest.mark.parametrize("binarise", ["dynamic", "fixed", None])
def test_no_validation_part_leaves_its_rows_to_train_on(binarise):
    data = from_tensors(ROWS, binarise=binarise, valid_fraction=0.0)
    assert (len(data.train), data.valid, len(data.test)) == (80, None, 20)
    assert repr(data) == "DataSet('tensors', train=80, test=20, shape=(2,))"
    assert data.to("meta").valid is None
    assert rows_of(from_tensors(ROWS).test) == rows_of(from_tensors(ROWS, valid_fraction=0.0).test)
    with pytest.raises(DataError, match="tensors has no valid part, only train, test"):
        data.part("valid")


def test_labels_stay_with_their_rows():
    data = from_tensors(ROWS, np.arange(100), labels=True)
    for part in (data.train, data.valid, data.test):
        x, y = part.tensors()
        assert torch.equal((x[:, 0] * 100).round().long(), y)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"valid_fraction": 0.6, "test_fraction": 0.5}, "sum to 1.1 and leave nothing to train on"),
        ({"valid_fraction": -0.1}, "valid_fraction=-0.1: give a share between 0 and 1, or 0 for none"),
        ({"test_fraction": 0.0}, "test_fraction=0.0: give a share between 0 and 1"),
        ({"test_fraction": 1.5}, "test_fraction=1.5"),
        ({"test_fraction": float("nan")}, "test_fraction=nan"),
        ({"valid_fraction": 0.001}, "leave the valid part empty"),
        ({"valid_fraction": 0.499, "test_fraction": 0.5}, "leave the train part empty"),
        ({"binarise": "sometimes"}, "binarise='sometimes'"),
        ({"labels": True}, "the data has no labels"),
    ],
)
def test_bad_options_are_named(options, message):
    with pytest.raises(DataError, match=message):
        from_tensors(ROWS, **options)


def test_a_part_of_its_own_takes_no_fraction():
    part = Part(ResidentRows(ROWS.clone()), None)
    data = assemble("x", Loaded(part, test=part), Division(valid_fraction=0.2))
    assert (len(data.train), len(data.valid), len(data.test)) == (80, 20, 100)
    with pytest.raises(DataError, match="x has a test part of its own"):
        assemble("x", Loaded(part, test=part), Division(test_fraction=0.2))


def test_the_last_rows_are_for_validation_unless_a_fraction_is_given():
    part = Part(ResidentRows(ROWS.clone()), None)
    loaded = Loaded(part, test=part, last_rows_valid=10)
    data = assemble("x", loaded, Division())
    assert rows_of(data.train) == list(range(90))
    assert rows_of(data.valid) == list(range(90, 100))
    whole = assemble("x", loaded, Division(valid_fraction=0.0))
    assert whole.valid is None
    assert rows_of(whole.train) == list(range(100))
    drawn = assemble("x", loaded, Division(valid_fraction=0.1))
    assert sorted(rows_of(drawn.train) + rows_of(drawn.valid)) == list(range(100))
    assert rows_of(drawn.valid) != rows_of(data.valid)


def test_dynamic_draws_train_afresh_and_keeps_the_rest():
    data = from_tensors(torch.rand(400, 30), binarise="dynamic")
    assert not torch.equal(data.train.tensors()[0], data.train.tensors()[0])
    for part in (data.valid, data.test):
        first = part.tensors()[0]
        assert first.unique().tolist() == [0.0, 1.0]
        assert torch.equal(first, part.tensors()[0])


def test_fixed_draws_all_parts_once_by_the_seed():
    x = torch.rand(400, 30)
    first, again, other = (from_tensors(x, binarise="fixed", seed=seed) for seed in (1, 1, 2))
    for part in ("train", "valid", "test"):
        bits = getattr(first, part).tensors()[0]
        assert getattr(first, part).rows.dtype == torch.uint8
        assert torch.equal(bits, getattr(first, part).tensors()[0])
        assert torch.equal(bits, getattr(again, part).tensors()[0])
        assert not torch.equal(bits, getattr(other, part).tensors()[0])


@pytest.mark.parametrize("streamed", [False, True])
def test_fixed_bits_have_the_right_probabilities(streamed):
    x = torch.tensor([0, 26, 128, 230, 255], dtype=torch.uint8).repeat(4_000, 1)
    rows = stream(HostTensor(x)) if streamed else ResidentRows(x)
    data = assemble("x", Loaded(Part(rows, None), divisor=255.0), Division(binarise="fixed"))
    bits = torch.cat([part.tensors()[0] for part in (data.train, data.valid, data.test)]).double()
    p = x[0].double() / 255
    assert ((bits.mean(0) - p).abs() <= 4.5 * (p * (1 - p) / 4_000).sqrt() + 1e-12).all()
    assert len(bits.unique(dim=0)) == 8  # the three inner columns are drawn apart from each other


def test_streamed_bits_belong_to_the_row_not_to_the_batch():
    x = torch.randint(0, 256, (60, 40), dtype=torch.uint8)
    loaded = Loaded(Part(stream(HostTensor(x)), None), divisor=255.0)
    data = assemble("x", loaded, Division(binarise="dynamic"))
    assert data.train.dynamic
    assert not torch.equal(data.train.tensors()[0], data.train.tensors()[0])
    (bits,) = data.test.tensors()
    assert bits.unique().tolist() == [0.0, 1.0]
    order = torch.tensor([5, 0, 11])
    assert torch.equal(data.test.batch(order)[0], bits[order])
    assert torch.equal(data.test[3:].tensors()[0], bits[3:])
    assert torch.equal(data.test.in_memory().tensors()[0], bits)
    other = assemble("x", loaded, Division(1, binarise="fixed")).test.tensors()[0]
    assert not torch.equal(bits, other)


def test_fixed_bits_do_not_depend_on_the_default_type(double):
    x = torch.rand(50, 9, dtype=torch.float32)
    bits = from_tensors(x, binarise="fixed").test.tensors()[0]
    torch.set_default_dtype(torch.float32)
    assert torch.equal(bits, from_tensors(x, binarise="fixed").test.tensors()[0])


def test_bits_are_left_as_they_are():
    bits = torch.randint(0, 2, (50, 4), dtype=torch.uint8)
    data = from_tensors(bits, binarise="dynamic", test_fraction=0.5)
    assert not data.train.dynamic
    assert data.test.divisor == 1
    assert set(map(tuple, data.test.tensors()[0].tolist())) <= set(map(tuple, bits.tolist()))


@pytest.mark.parametrize("binarise", ["dynamic", "fixed"])
def test_only_the_unit_interval_is_binarised(binarise):
    x = torch.rand(20, 2)
    x[7, 1] = 12.0
    with pytest.raises(DataError, match=r"holds 12, and only values in \[0, 1\] can be binarised"):
        from_tensors(x, binarise=binarise)
    assert len(from_tensors(x).train) == 14


def test_global_generators_are_left_alone():
    before = torch.get_rng_state(), np.random.get_state()[1].copy(), random.getstate()  # noqa: NPY002
    from_tensors(torch.full((50, 3), 0.5), binarise="fixed", seed=5)
    assert torch.equal(before[0], torch.get_rng_state())
    assert (before[1] == np.random.get_state()[1]).all()  # noqa: NPY002
    assert before[2] == random.getstate()


def test_event_shapes_must_agree():
    a, b = Split.from_tensor(torch.rand(3, 2)), Split.from_tensor(torch.rand(3, 4))
    with pytest.raises(DataError, match=r"mine: the parts' event shapes differ: .*test \(4,\)"):
        DataSet("mine", a, a, b)


def test_the_whole_moves():
    data = from_tensors(ROWS)
    moved = data.to("meta")
    assert [part.device.type for part in (moved.train, moved.valid, moved.test)] == ["meta"] * 3
    assert moved.shape == data.shape == (2,)
    assert repr(moved) == repr(data) == ("DataSet('tensors', train=70, valid=10, test=20, shape=(2,))")


@pytest.mark.parametrize("labels", [0, -3, 2.5, "ten"])
def test_a_number_of_labels_that_is_none_is_named(labels):
    with pytest.raises(DataError, match="how many labels of the training part to keep"):
        from_tensors(ROWS, np.arange(100) % 4, labels=labels)


def test_a_number_of_labels_is_shared_by_the_classes_and_the_rows_come_again():
    y = np.arange(1000) % 4
    x = np.arange(1000.0)[:, None]
    whole, few = (from_tensors(x, y, labels=labels, seed=3) for labels in (True, 10))
    train = few.train
    assert train.y[:700].add(1).bincount().tolist() == [690, 3, 3, 2, 2]
    # labelled rows are about a tenth: 700 / (10 * 10) copies of each
    assert len(train) == 700 + 6 * 10
    assert train.y[700:].bincount().tolist() == [18, 18, 12, 12]
    assert torch.equal(train.tensors()[0][:700], whole.train.tensors()[0])
    known = train.y >= 0
    assert torch.equal(train.y[known], train.tensors()[0][known, 0].long() % 4)
    assert torch.equal(few.test.y, whole.test.y)  # the other parts keep theirs
    assert few.test.names == train.names == ("x", "y")
    assert torch.equal(train.y, from_tensors(x, y, labels=10, seed=3).train.y)
    with pytest.raises(DataError, match="there are 4 classes, so give at least 4"):
        from_tensors(x, y, labels=3)


def test_few_labels_of_a_table_leave_its_transforms_as_they_are():
    frame = {"a": np.arange(200.0) ** 2, "label": np.arange(200) % 2}
    whole, few = (table(frame, labels=labels) for labels in (True, 4))
    assert whole.schema == few.schema
    assert int((few.train.y >= 0).sum()) > 4  # with their copies
    assert torch.equal(few.train.tensors()[0][: len(whole.train)], whole.train.tensors()[0])
