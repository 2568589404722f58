"""How fast a file that is larger than it should be is streamed: shuffled by blocks, against in order.

A file of `--size` bytes of random numbers is written for each format, in chunks of rows, and read batch by
batch as `fit` reads it: one pass in order, and one shuffled. Every batch is looked at, so nothing is read
lazily. The passes of a format take turns in one run, and before each the system is asked to forget the file's
pages; a disk of the machine's host may still have them.

    python benchmarks/streaming.py --size 4e9 --folder /tmp/streaming --out benchmarks/results/streaming.json
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import shutil
import statistics
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch

from ppl_vae import data
from ppl_vae.data import Split
from ppl_vae.data.rows import StreamedRows, stream
from ppl_vae.runs import atomic_write

WIDTH = 784
ROWS_IN_CHUNK = 512


def rows(count: int) -> Iterator[np.ndarray]:
    """Random numbers, (n, WIDTH) at a time; the first column says which row it is."""
    generator = np.random.default_rng(0)
    for start in range(0, count, 16 * ROWS_IN_CHUNK):
        chunk = generator.random((min(16 * ROWS_IN_CHUNK, count - start), WIDTH), dtype=np.float32)
        chunk[:, 0] = np.arange(start, start + len(chunk)) / count
        yield chunk


def write(path: Path, count: int) -> None:
    """A file of `count` rows, in the format of its name."""
    if path.suffix == ".npy":
        array = np.lib.format.open_memmap(path, mode="w+", dtype=np.float32, shape=(count, WIDTH))
        start = 0
        for chunk in rows(count):
            array[start : start + len(chunk)] = chunk
            start += len(chunk)
        array.flush()
    elif path.suffix == ".parquet":
        import pyarrow as pa
        import pyarrow.parquet as pq

        schema = pa.schema([("x", pa.list_(pa.float32(), WIDTH))])
        # random numbers do not compress, and a dictionary of them would be larger than they are
        with pq.ParquetWriter(path, schema, compression="none", use_dictionary=False) as file:
            for chunk in rows(count):
                lists = pa.FixedSizeListArray.from_arrays(pa.array(chunk.reshape(-1)), WIDTH)
                file.write_table(pa.table([lists], schema=schema), row_group_size=ROWS_IN_CHUNK)
    else:
        _write_array(path, count)


def _write_array(path: Path, count: int) -> None:
    if path.suffix == ".zarr":
        import zarr

        group: Any = zarr.open_group(str(path), mode="w")
        array = group.create_array(
            "x", shape=(count, WIDTH), chunks=(ROWS_IN_CHUNK, WIDTH), dtype="f4", compressors=None
        )
    else:
        import h5py

        group = h5py.File(path, "w")
        array = group.create_dataset("x", (count, WIDTH), "f4", chunks=(ROWS_IN_CHUNK, WIDTH))
    start = 0
    for chunk in rows(count):
        array[start : start + len(chunk)] = chunk
        start += len(chunk)
    if hasattr(group, "close"):
        group.close()


def drop_cache(path: Path) -> None:
    """Ask the system to forget the pages of a file, or of the files of a folder."""
    os.sync()  # pages that are not written yet cannot be dropped
    for file in [path] if path.is_file() else [each for each in path.rglob("*") if each.is_file()]:
        with file.open("rb") as opened:
            os.posix_fadvise(opened.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)


def whole(path: Path) -> Split:
    """All rows of a file, streamed."""
    found = data.load(path, memory_limit=0, valid_fraction=0)
    source = found.train.rows
    assert isinstance(source, StreamedRows)
    return Split(stream(source.source))


def one_pass(split: Split, batch_size: int, shuffled: bool, seed: int) -> float:
    """The seconds of one pass, whose every row came once."""
    generator = torch.Generator().manual_seed(seed) if shuffled else None
    started, count, total = time.perf_counter(), 0, 0.0
    for (x,) in split.batches(batch_size, shuffle_generator=generator):
        total += float(x[:, 0].sum(dtype=torch.float64))
        count += len(x)
    seconds = time.perf_counter() - started
    assert count == len(split)
    assert abs(total - (count - 1) / 2) < 1e-3 * count
    return seconds


def measure(path: Path, count: int, batch_size: int, repeats: int) -> dict[str, Any]:
    """The passes of one file in turns, their medians, and the ratio."""
    write(path, count)
    split = whole(path)
    found: dict[str, list[float]] = {"in order": [], "shuffled": []}
    for turn in range(repeats):
        for kind, seconds in found.items():
            drop_cache(path)
            seconds.append(one_pass(split, batch_size, kind == "shuffled", turn))
    medians = {kind: statistics.median(seconds) for kind, seconds in found.items()}
    size = count * WIDTH * 4
    return {
        "seconds": found,
        "megabytes_per_second": {kind: size * 1e-6 / median for kind, median in medians.items()},
        "shuffled_over_in_order": medians["in order"] / medians["shuffled"],
    }


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--size", type=float, default=4e9, help="bytes of a file")
    parser.add_argument("--formats", nargs="+", default=["h5", "zarr", "parquet", "npy"])
    parser.add_argument("--batch", type=int, default=128)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--folder", type=Path, default=Path("runs/benchmark-streaming"))
    parser.add_argument("--out", type=Path, default=Path("benchmarks/results/streaming.json"))
    options = parser.parse_args()
    options.folder.mkdir(parents=True, exist_ok=True)
    count = int(options.size / (4 * WIDTH))
    results: dict[str, Any] = {}
    report = {
        "rows": count,
        "bytes": count * WIDTH * 4,
        "batch": options.batch,
        "machine": {
            "processor": platform.processor() or platform.machine(),
            "cores": os.cpu_count(),
            "torch": torch.__version__,
        },
        "formats": results,
    }
    for kind in options.formats:
        path = options.folder / f"rows.{kind}"
        results[kind] = measure(path, count, options.batch, options.repeats)
        print(kind, json.dumps({k: v for k, v in results[kind].items() if k != "seconds"}), flush=True)
        remove(path)
        text = json.dumps(report, indent=1) + "\n"
        atomic_write(options.out, lambda file, text=text: file.write_text(text))  # type: ignore[misc]


def remove(path: Path) -> None:
    """A file, or a folder of files."""
    shutil.rmtree(path) if path.is_dir() else path.unlink()


if __name__ == "__main__":
    main()
