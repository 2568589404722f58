"""`ppl-vae sample`: new data from the pair of a run's folder."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from ppl_vae import plots, runs
from ppl_vae.cli import OK
from ppl_vae.cli.choosing import as_inputs, draw
from ppl_vae.cli.errors import UsageError
from ppl_vae.cli.options import Parser, make_parser
from ppl_vae.cli.report import save_figure
from ppl_vae.cli.saved import add_run, load_pair
from ppl_vae.cli.showing import is_image
from ppl_vae.core.checks import check_seed
from ppl_vae.queries import Draws
from ppl_vae.runs import atomic_write

EPILOG = """examples:
  ppl-vae sample runs/digits --num 100                       a picture, runs/digits/samples.png
  ppl-vae sample runs/digits --num 10000 --out samples.npz   numbers: draws of every site, by its name
  ppl-vae sample runs/labelled --given y=3                   of a model with labels: sixty-four threes
  ppl-vae sample runs/wine --out wines.csv                   of a table: rows in its own units
  ppl-vae sample runs/names                                  of strings: one a line, runs/names/samples.txt
"""


def parser() -> Parser:
    """The options of `ppl-vae sample`."""
    options = make_parser(
        "sample", "Draw new data from the pair of a run's folder.", EPILOG, arguments="RUN "
    )
    add_run(options)
    options.add_argument("--num", type=int, default=64, help="how many")
    options.add_argument("--seed", type=int, default=0, help="of the draws")
    options.add_argument(
        "--inputs",
        type=dict[str, int | float | list[int] | list[float]] | None,
        default=None,
        help="values of the model's arguments and of its latents by name, one for all or one for each: "
        "--inputs.y 3, or --given y=3",
    )
    options.add_argument(
        "--out",
        type=Path | None,
        default=None,
        help="a .png with the likelihood's means, a .npz with every site's draws and, as SITE_mean, means, "
        "or of a table a .csv, or of strings a .txt",
    )
    return options


def run(words: Sequence[str]) -> int:
    """Sample as the words say."""
    options = parser().read(as_inputs(words))
    check_seed("--seed", options.seed)
    out = _default_out(options.run) if options.out is None else options.out
    if out.suffix not in (".png", ".npz", ".csv", ".txt"):
        raise UsageError(
            f"--out {out}: give a name that ends in .png (a picture), .npz (numbers), .csv (a table's rows) "
            "or .txt (strings)"
        )
    pair = load_pair(options)
    draws = draw(pair, options.num, options.inputs or {}, options.seed)
    if out.suffix == ".csv":
        frame = runs.load_schema(options.run).inverse(draws.value)
        atomic_write(out, lambda path: frame.to_csv(path, index=False))
    elif out.suffix == ".txt":
        text = "".join(f"{each}\n" for each in runs.load_alphabet(options.run).decode(draws.value))
        atomic_write(out, lambda path: path.write_text(text, encoding="utf-8"))
    elif out.suffix == ".png":
        means = {name: mean for name, mean in draws.means.items() if is_image(tuple(mean.shape[1:]))}
        if not means:
            shapes = {name: tuple(value.shape) for name, value in draws.values.items()}
            raise UsageError(f"these samples are no images but {shapes}: give --out samples.npz")
        save_figure(plots.samples(next(iter(means.values()))), out)
    else:
        arrays = _arrays(draws)
        atomic_write(out, lambda path: np.savez(path, **arrays))  # type: ignore[arg-type]
    print(f"{options.num} samples in {out}")
    return OK


def _default_out(folder: Path) -> Path:
    try:
        runs.load_alphabet(folder)
    except runs.RunError:  # which `load_pair` says too, where it is the run's fault
        return folder / "samples.png"
    return folder / "samples.txt"


def _arrays(draws: Draws) -> dict[str, np.ndarray]:
    tensors = {
        **draws.latents,
        **draws.values,
        **{f"{name}_mean": mean for name, mean in draws.means.items()},
    }
    return {name: tensor.cpu().numpy() for name, tensor in tensors.items()}
