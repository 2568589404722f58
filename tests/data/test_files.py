"""A user's `.npz`, `.npy` and `.csv`: what is read, and one clear error for what cannot be."""

from __future__ import annotations

import pickle

import numpy as np
import pytest
import torch

from ppl_vae.data import DataError, MissingDataError, load
from ppl_vae.data.array_shapes import as_events
from ppl_vae.data.memory_map import MemoryMap

GREY = np.random.default_rng(0).integers(0, 256, (40, 4, 5), dtype=np.uint8)


def all_rows(data):
    x = torch.cat([part.tensors()[0] for part in (data.train, data.valid, data.test)])
    return sorted(x.flatten(1).tolist())


def every_row(data):
    return [part.tensors() for part in (data.train, data.valid, data.test)]


# .npz


def test_npz_with_three_parts_is_kept_as_it_is(tmp_path):
    path = tmp_path / "mine.npz"
    np.savez(path, train=GREY[:20], valid=GREY[20:30], test=GREY[30:], test_labels=np.arange(10))
    data = load(path)
    assert repr(data) == "DataSet('mine', train=20, valid=10, test=10, shape=(1, 4, 5))"
    assert np.array_equal(data.train.tensors()[0][:, 0].mul(255).round(), GREY[:20])
    assert data.test.labels.tolist() == list(range(10))
    assert data.train.labels is None


@pytest.mark.parametrize("keys", [("train", "train_labels", "test"), ("x_train", "y_train", "x_test")])
def test_npz_without_a_valid_part_draws_it_from_train(tmp_path, keys):
    x, y, test = keys
    np.savez(tmp_path / "a.npz", **{x: GREY[:30], y: np.arange(30), test: GREY[30:]})
    data = load(tmp_path / "a.npz", valid_fraction=0.2)
    assert [len(part) for part in (data.train, data.valid, data.test)] == [24, 6, 10]
    labels = torch.cat([data.train.labels, data.valid.labels])
    assert sorted(labels.tolist()) == list(range(30))


@pytest.mark.parametrize("arrays", [{"x": GREY, "y": np.arange(40)}, {"anything": GREY}])
def test_npz_with_one_array_is_divided(tmp_path, arrays):
    np.savez_compressed(tmp_path / "a.npz", **arrays)
    data = load(tmp_path / "a.npz", labels="y" in arrays)
    assert [len(part) for part in (data.train, data.valid, data.test)] == [28, 4, 8]
    assert len(data.train.tensors()) == len(arrays)


def test_the_divisor_is_one_for_all_parts(tmp_path):
    dark = np.zeros((5, 3), np.uint8)
    np.savez(tmp_path / "a.npz", train=np.full((5, 3), 51, np.uint8), valid=dark, test=dark + 1)
    data = load(tmp_path / "a.npz")
    assert data.train.tensors()[0].unique().item() == pytest.approx(0.2)
    assert data.test.tensors()[0].unique().item() == pytest.approx(1 / 255)


@pytest.mark.parametrize(
    ("arrays", "message"),
    [
        ({"a": GREY, "b": GREY}, r"holds \['a', 'b'\]; name the data 'train'"),
        ({"train": GREY, "test": GREY[:, :2]}, "parts differ in type or event shape"),
        ({"train": GREY, "test": GREY / 255}, "parts differ in type or event shape"),
        ({"x": GREY, "y": np.arange(3)}, "3 labels for 40 rows"),
        ({"x": np.arange(5)}, "has no event dimension"),
        ({"x": np.zeros((2, 2, 2, 2, 2))}, "has 5 dimensions"),
        ({"x": np.array([[1.0, np.nan]])}, "a.npz: x: row 0 holds NaN"),
        ({"x": np.array([["a"]])}, "not numbers"),
        ({"x": np.array([[{}]])}, "cannot be read as .npz"),
        ({"x": np.zeros((0, 4))}, "holds no data"),
        ({}, r"holds \[\]"),
    ],
)
def test_a_bad_npz_is_named(tmp_path, arrays, message):
    np.savez(tmp_path / "a.npz", **arrays)
    with pytest.raises(DataError, match=message):
        load(tmp_path / "a.npz")


@pytest.mark.parametrize("keep", [0, 10, 200, -30])
def test_a_truncated_npz_is_named(tmp_path, keep):
    path = tmp_path / "a.npz"
    np.savez_compressed(path, x=GREY)
    path.write_bytes(path.read_bytes()[:keep])
    with pytest.raises(DataError, match=r"a\.npz cannot be read as \.npz .*truncated"):
        load(path)


def test_a_damaged_npz_is_named(tmp_path):
    path = tmp_path / "a.npz"
    np.savez_compressed(path, x=GREY)
    content = bytearray(path.read_bytes())
    content[200:220] = bytes(20)
    path.write_bytes(content)
    with pytest.raises(DataError, match=r"cannot be read as \.npz"):
        load(path)


def test_confused_endings_are_named(tmp_path):
    np.save(tmp_path / "a.npy", GREY)
    np.savez(tmp_path / "b.npz", x=GREY)
    (tmp_path / "a.npy").rename(tmp_path / "a.npz")
    (tmp_path / "b.npz").rename(tmp_path / "b.npy")
    with pytest.raises(DataError, match=r"rename it to end with \.npy"):
        load(tmp_path / "a.npz")
    with pytest.raises(DataError, match=r"rename it to end with \.npz"):
        load(tmp_path / "b.npy")


# .npy, in memory and mapped


@pytest.mark.parametrize("array", [GREY, GREY > 99, GREY / 255, GREY.astype(np.int32)])
def test_a_mapped_npy_gives_what_a_read_one_gives(tmp_path, array):
    np.save(tmp_path / "a.npy", array)
    read, mapped = load(tmp_path / "a.npy"), load(tmp_path / "a.npy", memory_limit=10)
    assert read.train.resident
    assert not mapped.train.resident
    assert (mapped.shape, mapped.train.divisor) == (read.shape, read.train.divisor)
    for part in ("train", "valid", "test"):
        got, wanted = getattr(mapped, part), getattr(read, part)
        assert torch.equal(got.tensors()[0], wanted.tensors()[0])
        torch.testing.assert_close(got.mean(), wanted.mean())
    shuffled = [
        torch.cat([x for (x,) in d.train.batches(3, shuffle_generator=torch.Generator().manual_seed(0))])
        for d in (read, mapped)
    ]
    assert torch.equal(*shuffled)


def test_a_map_is_pickled_by_its_path(tmp_path):
    np.save(tmp_path / "a.npy", np.zeros((3_000, 100), np.uint8))
    data = load(tmp_path / "a.npy", memory_limit=10)
    pickled = pickle.dumps(data.test)
    assert len(pickled) < 10_000  # the positions; the rows are 60,000 bytes
    assert torch.equal(pickle.loads(pickled).tensors()[0], data.test.tensors()[0])


def test_a_bad_row_of_a_map_is_named_when_it_is_read(tmp_path):
    x = np.full((30, 2), 0.5)
    x[17, 1] = np.nan
    np.save(tmp_path / "a.npy", x)
    with pytest.raises(DataError, match=r"a\.npy: row 17 holds NaN"):
        load(tmp_path / "a.npy")
    source = MemoryMap(tmp_path / "a.npy")
    assert source.read(np.array([1, 2])).shape == (2, 2)
    with pytest.raises(DataError, match=r"a\.npy: row 17 holds NaN"):
        source.read(np.array([3, 17, 4]))


@pytest.mark.parametrize("binarise", ["dynamic", "fixed"])
def test_a_map_is_binarised_within_the_unit_interval_only(tmp_path, binarise):
    x = np.full((30, 2), 0.5)
    np.save(tmp_path / "good.npy", x)
    data = load(tmp_path / "good.npy", memory_limit=10, binarise=binarise)
    assert data.train.tensors()[0].unique().tolist() == [0.0, 1.0]
    x[17, 1] = 3.0
    np.save(tmp_path / "bad.npy", x)
    data = load(tmp_path / "bad.npy", memory_limit=10, binarise=binarise)
    with pytest.raises(DataError, match="row 17 holds 3, and only values in"):
        every_row(data)


@pytest.mark.parametrize("limit", [10, 2**30])
@pytest.mark.parametrize(
    ("array", "message"),
    [
        (np.arange(5.0), "has no event dimension"),
        (np.zeros((0, 3)), "holds no data"),
        (np.array([["a", "b"]]), "not numbers"),
    ],
)
def test_a_bad_npy_is_named(tmp_path, array, message, limit):
    np.save(tmp_path / "a.npy", array)
    with pytest.raises(DataError, match=message):
        load(tmp_path / "a.npy", memory_limit=limit)


@pytest.mark.parametrize("keep", [0, 20, 300])
def test_a_truncated_npy_is_named(tmp_path, keep):
    path = tmp_path / "a.npy"
    np.save(path, GREY)
    path.write_bytes(path.read_bytes()[:keep])
    with pytest.raises(DataError, match=r"a\.npy cannot be read as \.npy"):
        load(path)


@pytest.mark.parametrize(
    ("shape", "event"),
    [
        ((9, 5), (5,)),
        ((9, 4, 5), (1, 4, 5)),
        ((9, 3, 8, 8), (3, 8, 8)),
        ((9, 8, 8, 3), (3, 8, 8)),
        ((9, 3, 8, 3), (3, 8, 3)),
        ((9, 2, 8, 8), (2, 8, 8)),
    ],
)
def test_layouts_of_arrays_in_files(tmp_path, shape, event):
    array = np.random.default_rng(0).random(shape)
    assert as_events(array, "x").shape[1:] == event
    np.save(tmp_path / "a.npy", array)
    for limit in (10, 2**20):
        assert load(tmp_path / "a.npy", memory_limit=limit).shape == event
    if shape == (9, 8, 8, 3):
        assert np.array_equal(as_events(array, "x")[2, 1], array[2, :, :, 1])


# .csv


def write(path, text):
    path.write_text(text, encoding="utf-8")
    return path


@pytest.mark.parametrize("header", ["", "a,b\n"])
def test_csv_is_a_table_of_vectors(tmp_path, header):
    rows = [[i, i / 2] for i in range(20)]
    text = header + "".join(f"{a}, {b}\n" for a, b in rows)
    data = load(write(tmp_path / "a.csv", text))
    assert data.shape == (2,)
    assert all_rows(data) == rows


def test_a_column_headed_label_holds_the_labels(tmp_path):
    text = "Label,a,b\n" + "".join(f"{i},{i},{2 * i}\n" for i in range(20))
    data = load(write(tmp_path / "a.csv", text), labels=True)
    x, y = data.train.tensors()
    assert torch.equal(x, torch.stack([y, 2 * y], 1).float())


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("1,2\n3,x\n", "column '1' holds numbers, and line 2 holds 'x'"),
        ("a,b\n1,2\n3,x\n", "column 'b' holds numbers, and line 3 holds 'x'"),
        ("1,2\n3,\n", "2 rows leave the test part empty"),  # a gap makes it a table
        ("0.5,x\n1,2\n", "column '1' holds numbers, and line 1 holds 'x'"),
        ("1;2\n3;4\n", "2 rows leave the test part empty"),
        ("1,2\n3\n", "line 2 has 1 cells, not 2"),
        ("1,2\n3,4,5\n", "line 2 has 3 cells, not 2"),
        ("1,2\n3,4\n3,4,5\n", "line 3 has 3 cells, not 2"),
        ("a,b\n3,4,5\n6,7,8\n", "line 2 has 3 cells, not 2"),
        ("\n\na,b\n3,4\n6,5\n7,x\n", "column 'b' holds numbers, and line 6 holds 'x'"),
        ("1,2\n3,1e300\n", "row 1 holds an infinite value"),
        ("1,2\n3,inf\n", "row 1 holds an infinite value"),
        ("", "is empty"),
        ("a,b\n", "a header and no rows"),
        ("label,a\n0.5,1\n1,1\n", "label 0.5 in row 0 is not a whole number"),
    ],
)
def test_a_bad_csv_is_named(tmp_path, text, message):
    with pytest.raises(DataError, match=message):
        load(write(tmp_path / "a.csv", text))


def test_a_binary_csv_is_named(tmp_path):
    (tmp_path / "a.csv").write_bytes(b"\xff\xfe\x00\x81" * 9)
    with pytest.raises(DataError, match="cannot be read as text"):
        load(tmp_path / "a.csv")


# Paths


@pytest.mark.parametrize("name", ["gone.npz", "gone.npy", "gone.csv", "folder/gone"])
def test_a_missing_file_is_named(tmp_path, name):
    with pytest.raises(FileNotFoundError, match="no such file or folder") as caught:
        load(tmp_path / name)
    assert isinstance(caught.value, MissingDataError)
    assert name in str(caught.value)


def test_other_endings_are_refused(tmp_path):
    path = write(tmp_path / "a.mat", "x")
    with pytest.raises(
        DataError,
        match=r"\.npz, \.npy, \.csv, \.tsv, \.txt, \.data, \.parquet, \.h5, \.hdf5, \.zarr can be read",
    ):
        load(path)


def test_arrays_are_not_resized(tmp_path):
    np.save(tmp_path / "a.npy", GREY)
    with pytest.raises(DataError, match="image_size is for"):
        load(tmp_path / "a.npy", image_size=8)


def test_arrays_beside_the_data_of_an_npz_go_to_programs_by_name(tmp_path):
    from ppl_vae.data import for_pair
    from tests.data.test_selection import pair_of

    x, mask, gappy = np.arange(60.0).reshape(20, 3), np.arange(60).reshape(20, 3) % 2 > 0, np.full(20, np.nan)
    np.savez(tmp_path / "one.npz", x=x, mask=mask, gappy=gappy, names=np.array(list("abc")), short=np.ones(3))
    one = load(tmp_path / "one.npz", seed=0)
    assert one.train.names == ("x",)
    found, masked = for_pair(one, pair_of(lambda x, mask: None)).test.tensors()
    assert torch.equal(masked, found % 2 > 0)
    for name, why in (
        ("gappy", "row 0 holds NaN"),
        ("names", "its shape is"),
        ("short", "the data has 20 rows"),
    ):
        with pytest.raises(DataError, match=f"'{name}' is left out: .*{why}"):
            for_pair(one, pair_of(eval(f"lambda x, {name}: None")))
    np.savez(
        tmp_path / "parts.npz",
        x_train=x,
        mask_train=mask,
        x_test=x[:4],
        mask_test=mask[:4],
        size_test=np.ones(4),
    )
    parts = load(tmp_path / "parts.npz", valid_fraction=0)
    assert torch.equal(
        for_pair(parts, pair_of(lambda x, mask: None)).test.tensors()[1], torch.from_numpy(mask[:4])
    )
    with pytest.raises(DataError, match="the part test has it, and not every one"):
        for_pair(parts, pair_of(lambda x, size: None))
