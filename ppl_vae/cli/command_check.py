"""`ppl-vae check`: whether a model and a guide keep the contract of a pair."""

from __future__ import annotations

from collections.abc import Sequence

from ppl_vae import estimators
from ppl_vae.cli import OK
from ppl_vae.cli.default_pair import sum_over_classes
from ppl_vae.cli.options import Parser, add_data, add_estimator, add_pair, build, load_data, make_parser
from ppl_vae.cli.rebuildable import refuse_unrebuildable
from ppl_vae.testing import check_pair

EPILOG = """example:
  ppl-vae check --data digits --model my_file.MyModel --guide my_file.MyGuide
"""


def parser() -> Parser:
    """The options of `ppl-vae check`."""
    options = make_parser("check", "Check that a model and a guide fit each other and the data.", EPILOG)
    add_data(options)
    add_pair(options)
    add_estimator(options)
    return options


def run(words: Sequence[str]) -> int:
    """Check as the words say."""
    options = parser()
    chosen = options.read(words)
    dataset = load_data(chosen)
    sum_over_classes(chosen, dataset, words)
    pair, built = build(options, chosen, dataset)
    own = estimators.ours(built.estimator)
    allowed = own is None or own.handles_global_latents
    print(check_pair(pair, dataset, allow_global=allowed))
    refuse_unrebuildable(pair, dataset)
    print("a run's folder is enough to build this pair again")
    return OK
