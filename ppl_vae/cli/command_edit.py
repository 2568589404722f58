"""`ppl-vae edit`: data with more of something, by the pair of a run's folder."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, cast

import jsonargparse
import numpy as np
import torch
from torch import Tensor

from ppl_vae import plots, queries
from ppl_vae.cli import OK
from ppl_vae.cli.choosing import imported
from ppl_vae.cli.command_impute import add_part
from ppl_vae.cli.errors import UsageError
from ppl_vae.cli.options import Parser, add_data, make_parser
from ppl_vae.cli.report import save_figure
from ppl_vae.cli.saved import add_run, data_of_run, load_pair, part_of
from ppl_vae.cli.showing import as_images, is_image, shown_and_held
from ppl_vae.core.checks import check_count, check_seed
from ppl_vae.core.isolation import questioning
from ppl_vae.core.pair import Pair
from ppl_vae.data import Schema, Split, for_pair
from ppl_vae.runs import atomic_write

EPILOG = """examples:
  ppl-vae edit runs/digits --toward 8 --away 3                 threes, on their way to an eight
  ppl-vae edit runs/wine --ascend alcohol --out stronger.csv   rows whose codes ascend a column's mean
  ppl-vae edit runs/mine --ascend my_file.score                a function of means, (n, ...) to (n,)
"""
STRENGTHS = [0.0, 0.5, 1.0, 1.5]
_CODES = 1000  # data whose codes say where data have theirs


def parser() -> Parser:
    """The options of `ppl-vae edit`."""
    options = make_parser("edit", "Data with more of something.", EPILOG, arguments="RUN ")
    add_run(options)
    add_part(options)
    options.add_argument("--num", type=int, default=8, help="how many data are edited")
    options.add_argument(
        "--toward",
        type=str | None,
        default=None,
        help="a label: go along the vector to the mean code of its data",
    )
    options.add_argument(
        "--away", type=str | None, default=None, help="the label whose data are edited; all others by default"
    )
    options.add_argument(
        "--strength", type=list[float], default=STRENGTHS, help="how far: 1 is from one mean to the other"
    )
    options.add_argument(
        "--ascend",
        type=str | Callable[..., Tensor] | None,  # not text alone: a file may not name a stranger's function
        default=None,
        help="a column of a table, or a function of yours by its path: go up it, staying where data lie",
    )
    options.add_function_arguments(
        queries.optimise,
        None,
        skip={"pair", "score", "start", "like", "inputs", "given", "seed"},
        as_group=False,
    )
    options.add_argument(
        "--out",
        type=Path | None,
        default=None,
        help="a .png, a .npz of tensors, or of a table a .csv; RUN/edited.png, or .csv, by default",
    )
    add_data(options, default=None)
    return options


def run(words: Sequence[str]) -> int:
    """Edit as the words say."""
    options = parser().read(words)
    check_seed("--seed", options.seed)
    check_count("--num", options.num)
    if (options.toward is None) == (options.ascend is None):
        raise UsageError("say what to edit: either --toward LABEL, or --ascend COLUMN_OR_FUNCTION")
    pair = load_pair(options)
    split = part_of(data_of_run(options), options.part).to(pair.device)
    schema = cast("Schema | None", split.naming.schema or pair.schema)
    out = options.out or options.run / f"edited.{'png' if schema is None else 'csv'}"
    if out.suffix not in (".png", ".npz", ".csv") or (out.suffix == ".csv" and schema is None):
        raise UsageError(f"--out {out}: give a name that ends in .png, .npz or, of a table, .csv")
    if out.suffix == ".png" and not is_image(split.shape):
        raise UsageError(f"data of shape {tuple(split.shape)} are no images: give --out edited.npz")
    edit = _toward if options.toward is not None else _ascended
    start, draws, observed = edit(pair, split, schema, options)
    toward = f"strength {', '.join(f'{each:g}' for each in options.strength)} toward {options.toward}"
    _write(out, draws, observed, start, schema, f"up {options.ascend}" if options.ascend else toward)
    print(f"{len(start)} data edited, in {out}")
    return OK


Edited = tuple[Tensor, queries.Draws, str]


def _toward(pair: Pair, split: Split, schema: Schema | None, options: jsonargparse.Namespace) -> Edited:
    """Data of one label moved along the vector to another's, (strengths, n, ...)."""
    if split.labels is None:
        raise UsageError("--toward needs labels, and these data have none: --ascend goes up a score instead")
    group = split.labels == _label(schema, "--toward", options.toward)
    others = (split.labels >= 0) & ~group
    if options.away is not None:
        others = split.labels == _label(schema, "--away", options.away)
    for chosen, name in ((group, options.toward), (others, options.away or "another one")):
        if int(chosen.sum()) < 2:
            raise UsageError(
                f"label {name}: {int(chosen.sum())} of the {len(split):,} data have it, and two are needed"
            )
    with questioning(pair, options.seed, pair.device):
        one, two = (for_pair(split[which.nonzero().flatten()], pair).tensors() for which in (group, others))
    vector = queries.attribute(pair, one, two, site=options.site, seed=options.seed)
    print(vector)
    start = tuple(each[: options.num] for each in two)
    observed, held = shown_and_held(pair, start, options.seed)
    draws = vector.apply(pair, start, options.strength, given=held, seed=options.seed)
    return start[0], draws, observed


def _ascended(pair: Pair, split: Split, schema: Schema | None, options: jsonargparse.Namespace) -> Edited:
    """Data whose codes went up a score of their means, (n, ...)."""
    names = () if schema is None else schema.names
    score: Any = options.ascend
    if score in names:
        column = list(schema)[names.index(score)]  # type: ignore[arg-type]
        if column.kind == "category":
            raise UsageError(f"--ascend {score}: its classes have no order, so nothing goes up")
        place = names.index(score)
        score = lambda mean: mean[..., place]  # noqa: E731
    elif isinstance(score, str):
        if "." not in score:
            known = f"the columns are {', '.join(names)}" if names else "these data are no table"
            raise UsageError(
                f"--ascend {score}: {known}; a function of yours goes by its path, my_file.score"
            )
        score = imported(score, "--ascend")
    with questioning(pair, options.seed, pair.device):
        seen = for_pair(split, pair)
        start, like = (seen.take(count).tensors() for count in (options.num, _CODES))
    observed, held = shown_and_held(pair, start, options.seed)
    settings = {name: options[name] for name in ("site", "steps", "learning_rate", "prior_weight", "shell")}
    found = queries.optimise(pair, score, start, like=like, given=held, seed=options.seed, **settings)
    print(found)
    return start[0], found.draws, observed


def _label(schema: Schema | None, option: str, word: str) -> int:
    """The number of a label: of a table's, which have names, by its name."""
    levels = () if schema is None or schema.label is None else tuple(map(str, schema.label.levels))
    if word in levels:
        return levels.index(word)
    if levels or not word.isdecimal():
        raise UsageError(
            f"{option} {word}: that is no label" + (f" of {', '.join(levels)}" if levels else "")
        )
    return int(word)


def _write(
    out: Path, draws: queries.Draws, observed: str, start: Tensor, schema: Schema | None, said: str
) -> None:
    if not observed:
        raise UsageError(f"no site of {list(draws.values)} has the data's values, so nothing can be shown")
    mean = draws.means[observed].reshape(-1, *start.shape)  # (strengths, n, ...), or (1, n, ...)
    if out.suffix == ".csv" and schema is not None:
        frame = schema.inverse(mean)
        atomic_write(out, lambda path: frame.to_csv(path))
    elif out.suffix == ".png":
        steps = torch.cat([start.to(mean).unsqueeze(0), mean])
        axes = plots.samples(as_images(steps.flatten(0, 1)), columns=len(start))
        axes.set_title(f"data above, below them {said}")
        save_figure(axes, out)
    else:
        arrays = {"start": start, "mean": mean, **draws.latents}
        atomic_write(out, lambda path: np.savez(path, **{k: v.cpu().numpy() for k, v in arrays.items()}))  # type: ignore[arg-type]
