"""`ppl-vae compress`: data as a lossless file by the pair of a run's folder, and back."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from ppl_vae.cli import OK
from ppl_vae.cli.command_impute import add_part
from ppl_vae.cli.errors import UsageError
from ppl_vae.cli.options import Parser, add_data, make_parser
from ppl_vae.cli.saved import add_run, data_of_run, load_pair, part_of
from ppl_vae.compression import compress, decompress
from ppl_vae.core.checks import check_seed
from ppl_vae.runs import atomic_write

EPILOG = """examples:
  ppl-vae compress runs/digits --out test.bits                     the test digits, beside gzip, bz2 and PNG
  ppl-vae compress runs/digits --num_samples 20 --out test.bits    by the bound of 20 samples: smaller
  ppl-vae compress runs/digits --decompress test.bits --out test.npz
"""


def parser() -> Parser:
    """The options of `ppl-vae compress`."""
    options = make_parser(
        "compress", "Code discrete data without loss, or decode a file of it.", EPILOG, arguments="RUN "
    )
    add_run(options)
    add_part(options)
    options.add_argument("--out", type=Path, required=True, help="the file; of --decompress a .npz")
    options.add_argument("--decompress", type=Path | None, default=None, help="a file to decode")
    skip: set[str | int] = {"pair", "data", "path", "seed", "order"}
    options.add_function_arguments(compress, None, skip=skip, as_group=False)
    add_data(options, default=None)
    return options


def run(words: Sequence[str]) -> int:
    """Code or decode as the words say."""
    options = parser().read(words)
    check_seed("--seed", options.seed)
    if options.decompress is not None and options.out.suffix != ".npz":
        raise UsageError(f"--out {options.out}: what is decoded are tensors: give a name that ends in .npz")
    pair = load_pair(options)
    if options.decompress is not None:
        tensors = decompress(pair, options.decompress, progress=options.progress)
        names = pair.arguments or tuple(map(str, range(len(tensors))))
        arrays = {name: tensor.numpy() for name, tensor in zip(names, tensors)}
        atomic_write(options.out, lambda path: np.savez(path, **arrays))  # type: ignore[arg-type]
        print(f"{len(tensors[0]):,} data in {options.out}")
        return OK
    settings = {
        name: options[name] for name in ("num_samples", "bits", "batch_size", "verify", "coders", "progress")
    }
    split = part_of(data_of_run(options), options.part)
    print(compress(pair, split, options.out, seed=options.seed, **settings))
    print(f"in {options.out}")
    return OK
