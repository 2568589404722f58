"""Whether the run that a command starts could be judged afterwards: asked before it starts."""

from __future__ import annotations

import torch

from ppl_vae.core.isolation import random_numbers
from ppl_vae.core.pair import Pair
from ppl_vae.data import DataSet, for_pair
from ppl_vae.runs.config import ConfigError
from ppl_vae.runs.loading import pair_config


def refuse_unrebuildable(pair: Pair, dataset: DataSet) -> None:
    """Write a pair and build it again, as `ppl-vae evaluate` will have to.

    Raises:
        ConfigError: when another pair comes of it, or none; says why and both ways out.
    """
    with random_numbers(0, torch.device("cpu")):
        example = for_pair(dataset.train, pair).take(8).tensors()
    trees = pair_config(pair, example)["pair"]
    if trees.get("rebuildable") is False:
        raise ConfigError(
            "a run of this pair could be trained, but neither evaluated nor sampled from, since it cannot "
            f"be built from its run's folder: {trees['why']}. Either store each argument of a constructor, "
            "unmodified, under an attribute of its own name; or train in Python, where pv.load(path, "
            f"pair=...) fills a pair that you build yourself"
        )
