"""`.parquet`, `.h5` and `.zarr`: the same rows in memory and streamed, in order and shuffled by blocks."""

from __future__ import annotations

import importlib
import json
import pickle
import subprocess
import sys
from pathlib import Path

import h5py
import numpy as np
import pytest
import torch

import ppl_vae as pv
from ppl_vae import data, estimators, evaluate, guides, models, nets
from ppl_vae.data import DataError, Split, blocks
from ppl_vae.data.rows import StreamedRows, stream

N, D = 300, 6
GENERATOR = np.random.default_rng(0)
X = GENERATOR.normal(size=(N, D)).astype(np.float32)
Y = np.arange(N) % 3
MASK = GENERATOR.random((N, D)) < 0.5
ARRAYS = {"x": X, "y": Y, "mask": MASK, "size": np.arange(N, dtype=np.uint16)}
SUFFIXES = ["h5", "zarr", "parquet"]


def write(path, chunk=16, **arrays):
    """A file of named arrays, in chunks of rows."""
    if path.suffix == ".h5":
        with h5py.File(path, "w") as file:
            for name, array in arrays.items():
                file.create_dataset(name, data=array, chunks=(chunk, *array.shape[1:]))
    elif path.suffix == ".zarr":
        group = pytest.importorskip("zarr").open_group(str(path), mode="w")
        for name, array in arrays.items():
            group.create_array(name, data=array, chunks=(chunk, *array.shape[1:]))
    else:
        pa = pytest.importorskip("pyarrow")
        columns = {
            name: pa.FixedSizeListArray.from_arrays(pa.array(array.reshape(-1)), array.shape[1])
            if array.ndim == 2
            else pa.array(array)
            for name, array in arrays.items()
        }
        importlib.import_module("pyarrow.parquet").write_table(pa.table(columns), path, row_group_size=chunk)
    return path


@pytest.fixture(params=SUFFIXES)
def path(request, tmp_path):
    return write(tmp_path / f"rows.{request.param}", **ARRAYS)


@pytest.fixture
def small_blocks(monkeypatch):
    """Blocks of some rows, and buffers of some blocks, as a file larger than memory has."""
    monkeypatch.setattr(blocks, "BLOCK", 600)
    monkeypatch.setattr("ppl_vae.data.array_stores.BLOCK", 600)
    monkeypatch.setattr(blocks, "BUFFER", 5000)


def everything(path, **options):
    """All rows of a file's train part, streamed, in the order of the file."""
    found = data.load(path, memory_limit=0, valid_fraction=0, **options).train
    return Split(
        stream(found.rows.source),
        others={n: stream(r.source) for n, r in found.others.items()},
        naming=found.naming,
    )


def test_in_memory_and_streamed_are_the_same_rows(path, small_blocks):
    near, far = (data.load(path, memory_limit=limit, labels=True, seed=1) for limit in (2**20, 0))
    assert near.train.resident
    assert not far.train.resident
    assert near.train.held == far.train.held == ("x", "y", "mask", "size")
    for part, wanted in near.parts().items():
        names = ["x", "y", "mask", "size"]
        found = far.part(part).choose(names)
        for a, b in zip(found.tensors(), wanted.choose(names).tensors(), strict=True):
            assert a.dtype == b.dtype
            assert torch.equal(a, b)
        x, y, mask, size = found.tensors()
        assert [each.dtype for each in (y, mask, size)] == [torch.int64, torch.bool, torch.int64]
        assert torch.equal(x, torch.from_numpy(X)[size])
        assert torch.equal(y, torch.from_numpy(Y)[size])
        assert torch.equal(mask, torch.from_numpy(MASK)[size])
    assert far.train.names == ("x", "y")
    assert torch.equal(pickle.loads(pickle.dumps(far.train)).tensors()[0], far.train.tensors()[0])


def test_a_shuffled_pass_has_every_row_once_and_reads_every_block_once(path, small_blocks):
    split = everything(path).choose(["x", "size"])
    file = split.rows.source.file
    read, buffer = [], file.in_buffer * int(np.diff(file.bounds).max())
    plain = file.reader.block
    file.reader.block = lambda number, name: (read.append((number, name)), plain(number, name))[1]
    orders = []
    for seed in (0, 0, 1):
        for kept in file._kept.values():
            kept.clear()
        read.clear()
        generator = torch.Generator().manual_seed(seed)
        x, size = (torch.cat(each) for each in zip(*split.batches(7, shuffle_generator=generator)))
        assert sorted(size.tolist()) == list(range(N))
        assert torch.equal(x, torch.from_numpy(X)[size])
        blocks_read = range(len(file.bounds) - 1)
        assert sorted(read) == [(number, name) for number in blocks_read for name in ("size", "x")]
        orders.append(size.tolist())
    assert orders[0] == orders[1] != orders[2]
    assert orders[0] != sorted(orders[0])
    # two rows of one block are within a buffer of each other
    block = np.searchsorted(file.bounds, orders[0], side="right") - 1
    spans = [np.ptp(np.flatnonzero(block == number)) for number in range(len(file.bounds) - 1)]
    assert 0 < max(spans) < buffer


def test_the_order_within_a_buffer_and_of_the_blocks_is_uniform(tmp_path, small_blocks):
    """Of 4 blocks of 2 rows in buffers of 2 blocks: any row is the first, any two blocks the first two."""
    path = write(tmp_path / "few.h5", chunk=2, x=np.arange(8.0, dtype=np.float32)[:, None])
    split = everything(path, test_fraction=0.2)
    source = split.rows.source
    source.file.bounds, source.file.in_buffer = np.array([0, 2, 4, 6, 8]), 2
    generator, draws, first, pairs = torch.Generator().manual_seed(0), 6000, np.zeros(8), {}
    for _ in range(draws):
        order = blocks.shuffled_by_blocks(source, np.arange(8), generator).tolist()
        first[order[0]] += 1
        together = frozenset(row // 2 for row in order[:4])
        assert len(together) == 2
        pairs[together] = pairs.get(together, 0) + 1
    for counts, share in ((first, 1 / 8), (np.array(list(pairs.values())), 1 / 6)):
        error = np.sqrt(share * (1 - share) / draws)
        assert np.abs(counts / draws - share).max() < 4.5 * error
    assert len(pairs) == 6


def test_a_part_of_a_file_is_shuffled_by_its_blocks_too(path, small_blocks):
    split = data.load(path, memory_limit=0).train.choose(["size"])
    (rows,) = split.tensors()
    (found,) = (
        torch.cat(each) for each in zip(*split.batches(9, shuffle_generator=torch.Generator().manual_seed(0)))
    )
    assert sorted(found.tolist()) == rows.tolist()


def make_pair():
    torch.manual_seed(0)
    return pv.Pair(models.LinearGaussian(2, D), guides.MeanField(nets.MLPEncoder((D,), 2)))


def test_fit_and_evaluate_from_the_file(path, small_blocks, tmp_path):
    sets = data.load(path, memory_limit=0, seed=2)
    pair = make_pair()
    run = pv.fit(
        pair, estimators.ELBO(), sets, epochs=2, batch_size=32, progress=False, run_dir=tmp_path / "run"
    )
    assert np.isfinite(run.history["valid_bound"]).all()
    near = evaluate.bounds(pair, data.load(path, seed=2).test, seed=0).elbo
    assert evaluate.bounds(pair, sets.test, seed=0).elbo == pytest.approx(near, rel=1e-6)
    pv.fit(
        pair,
        estimators.ELBO(),
        sets,
        epochs=3,
        batch_size=32,
        progress=False,
        run_dir=tmp_path / "run",
        resume=True,
    )


def test_images_in_bytes_are_scaled_and_get_a_channel(tmp_path, small_blocks):
    images = GENERATOR.integers(0, 256, (40, 5, 4)).astype(np.uint8)
    for suffix in ("h5", "zarr"):
        write(tmp_path / f"images.{suffix}", x=images)
        for limit in (0, 2**20):
            found = data.load(tmp_path / f"images.{suffix}", memory_limit=limit, seed=0)
            assert found.shape == (1, 5, 4)
            assert found.train.divisor == 255.0
    with h5py.File(tmp_path / "bits.h5", "w") as file:
        file["only"] = images > 128
    bits = data.load(tmp_path / "bits.h5", memory_limit=0)
    assert bits.train.tensors()[0].unique().tolist() == [0.0, 1.0]
    binarised = data.load(tmp_path / "images.h5", memory_limit=0, binarise="dynamic")
    assert binarised.train.tensors()[0].unique().tolist() == [0.0, 1.0]


def test_a_table_of_numbers_in_parquet_is_x_with_its_label(tmp_path, small_blocks):
    frames = pytest.importorskip("polars")
    path = tmp_path / "table.parquet"
    table = frames.DataFrame({"a": X[:, 0], "Label": Y, "b": np.arange(N, dtype=np.uint8)})
    table.write_parquet(path, row_group_size=32)
    for limit in (0, 2**20):
        split = data.load(path, memory_limit=limit, labels=True, valid_fraction=0, seed=0).train
        x, y = split.tensors()
        assert (split.naming.columns, split.divisor, x.dtype) == (("a", "b"), 1.0, torch.float32)
        row = torch.tensor([int(np.flatnonzero(X[:, 0] == value)[0]) for value in x[:, 0].numpy()])
        assert torch.equal(y, torch.from_numpy(Y)[row])
        assert torch.equal(x[:, 1], (row % 256).float())


def test_a_file_that_is_in_memory_can_be_written_anew(path):
    sets = data.load(path)
    write(path, x=X + 1)
    assert not torch.equal(data.load(path).train.tensors()[0], sets.train.tensors()[0])


def test_mistakes_in_files(tmp_path, small_blocks):
    nan = X.copy()
    nan[123, 2] = np.nan
    for suffix in SUFFIXES:
        path = write(tmp_path / f"nan.{suffix}", x=nan, y=Y)
        with pytest.raises(DataError, match=r"x: row 123 holds NaN"):
            data.load(path)
        with pytest.raises(DataError, match=r"x: row 123 holds NaN"):
            everything(path).tensors()
        damaged = tmp_path / f"damaged.{suffix}"
        damaged.write_bytes(b"no such thing" * 100)
        with pytest.raises(DataError, match=f"cannot be read as .{suffix}"):
            data.load(damaged)
        with pytest.raises(data.MissingDataError, match="no such file"):
            data.load(tmp_path / f"gone.{suffix}")
        with pytest.raises(DataError, match="image_size is for"):
            data.load(path, image_size=8)
        two = write(tmp_path / f"two.{suffix}", a=X, b=X)
        with pytest.raises(DataError, match="'x'"):
            data.load(two)
        grey = everything(write(tmp_path / f"grey.{suffix}", x=X * 10))
        with pytest.raises(DataError, match=r"outside|only values in \[0, 1\]"):
            data.load(tmp_path / f"grey.{suffix}", memory_limit=0, binarise="dynamic").train.tensors()
        assert not grey.resident


def test_what_a_store_holds_and_is_no_array_of_the_data(tmp_path):
    from tests.data.test_selection import pair_of

    path = tmp_path / "more.h5"
    with h5py.File(path, "w") as file:
        file["x"], file["long"], file["scalar"], file["my mask"] = X, np.ones(7), 3.0, MASK
        file.create_dataset("name", data=np.array([b"a"] * N))
        file.create_group("deep")["z"] = X
    found = data.load(path)
    assert found.train.held == ("x",)
    for name, why in (
        ("long", "its shape is"),
        ("scalar", "its shape is"),
        ("name", "its values are of type"),
    ):
        with pytest.raises(DataError, match=f"{name!r} is left out: {why}"):
            data.for_pair(found, pair_of(eval(f"lambda x, {name}: None")))
    with h5py.File(tmp_path / "groups.h5", "w") as file:
        file.create_group("obs")
        file.create_group("X")
    with pytest.raises(DataError, match=r"no array at its root but X, obs.*anndata.read_h5ad"):
        data.load(tmp_path / "groups.h5")


def test_columns_of_parquet_that_are_no_numbers(tmp_path):
    frames = pytest.importorskip("polars")
    for name, column, says in (
        ("text", ["a"] * 4, r"column 'c' is no numbers.*data.table"),
        ("gaps", [1, None, 2, 3], r"column 'c' lacks 1 values"),
        ("ragged", [[1], [1, 2], [3], [4]], "column 'c' holds lists of 1 to 2 values"),
    ):
        path = tmp_path / f"{name}.parquet"
        frames.DataFrame({"x": [[1.0]] * 4 if name == "ragged" else [1.0] * 4, "c": column}).write_parquet(
            path
        )
        with pytest.raises(DataError, match=says):
            data.load(path)


def test_a_block_that_does_not_fit_is_refused(tmp_path, monkeypatch):
    path = write(tmp_path / "rows.h5", x=X)
    monkeypatch.setattr(blocks, "LARGEST", 100)
    with pytest.raises(DataError, match=r"a block of .* bytes, which is read at once: write it with smaller"):
        data.load(path)


@pytest.mark.parametrize(
    ("suffix", "module", "extra"), [("parquet", "pyarrow.parquet", "parquet"), ("zarr", "zarr", "zarr")]
)
def test_a_package_that_is_missing_is_named_with_its_extra(suffix, module, extra, tmp_path, monkeypatch):
    path = write(tmp_path / f"rows.{suffix}", x=X)
    monkeypatch.setitem(sys.modules, module, None)
    with pytest.raises(ImportError, match=rf"pip install 'ppl_vae\[{extra}\]'"):
        data.load(path)


def test_reading_ahead_ends_with_the_pass(path, small_blocks):
    import threading

    split = everything(path)
    before = threading.active_count()
    for number, _ in enumerate(split.batches(5, shuffle_generator=torch.Generator().manual_seed(0))):
        if number == 3:
            break
    del _
    import gc

    gc.collect()
    assert threading.active_count() <= before
    assert isinstance(split.rows, StreamedRows)


@pytest.mark.slow
def test_the_benchmark_runs_on_some_megabytes(tmp_path):
    for module in ("zarr", "pyarrow"):
        pytest.importorskip(module)
    script = Path(__file__).parents[2] / "benchmarks" / "streaming.py"
    out = tmp_path / "streaming.json"
    words = ["--size", "4e6", "--repeats", "1", "--folder", str(tmp_path / "files"), "--out", str(out)]
    subprocess.run([sys.executable, str(script), *words], check=True, capture_output=True)
    report = json.loads(out.read_text())
    assert set(report["formats"]) == {"npy", "h5", "zarr", "parquet"}
    assert all(each["shuffled_over_in_order"] > 0 for each in report["formats"].values())
