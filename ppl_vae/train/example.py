"""The data by which the programs of a training are tried before its first step."""

from __future__ import annotations

import torch
from pyro.infer import ELBO as PyroELBO
from torch import Tensor

from ppl_vae.core.drawing import draw
from ppl_vae.core.isolation import questioning
from ppl_vae.core.meeting import meet
from ppl_vae.core.pair import Pair
from ppl_vae.core.sites import PairError, data_plate_of
from ppl_vae.core.subsampling import check_sizes, seen_by
from ppl_vae.data import Split
from ppl_vae.data.gaps import example_of
from ppl_vae.train.validation import validation_size


def example_for(
    pair: Pair, train: Split, valid: Split | None, estimator: PyroELBO, batch_size: int
) -> tuple[Tensor, ...]:
    """A few data, or a whole batch of them for programs that subsample it; its sizes are checked first."""
    first = train.batch(torch.arange(min(batch_size, len(train))))
    meet(pair, first)
    if pair.shares and batch_size < len(train):
        _check_shared(pair, first, batch_size, len(train))
    if pair.fixed_rows is not None:
        _check_one_batch(pair, train, batch_size)
        return first
    example = example_of(train, valid, 8)
    if not seen_by(pair, example).subsamples:
        return example
    parts = [(train, batch_size), *([] if valid is None else [(valid, validation_size(estimator))])]
    for name, (part, size) in zip(("data", "validation data"), parts):
        sizes = {min(size, len(part)), len(part) % size} - {0}
        check_sizes(
            pair, [part.batch(torch.arange(each)) for each in sorted(sizes)], f"{name} in batches of {size}"
        )
    return first


def _check_one_batch(pair: Pair, train: Split, batch_size: int) -> None:
    """Raise PairError where programs with parameters for each datum would be given others in their places."""
    if batch_size < len(train):
        raise PairError(
            f"the pair has parameters for each of {pair.fixed_rows} data, and here are {len(train)} in "
            f"batches of {batch_size}, so that different data would share them: train with all data as one "
            f"batch, batch_size={len(train)}, which is then not shuffled; or let the guide compute the "
            "posterior from its batch"
        )


def _check_shared(pair: Pair, batch: tuple[Tensor, ...], batch_size: int, num_data: int) -> None:
    """Raise PairError where the term of latents that all data share would be counted in every batch."""
    with questioning(pair, 0, pair.device):
        try:
            particles = draw(pair.model, pair.guide, batch)
        except Exception:
            return  # whoever runs it next says why
    # the plate of a program that takes some of a batch tells how many there are
    if particles.global_sites and particles.scale == 1.0 and particles.batch_size == len(batch[0]):
        plate = data_plate_of(particles.model_trace, particles.guide_trace)
        raise PairError(
            f"the latents {list(particles.global_sites)} are shared by all data, and the plate {plate!r} "
            f"holds a batch alone, so that their term would be counted for every {batch_size} data and not "
            f"once for {num_data}: say how many there are, "
            f"pyro.plate({plate!r}, {num_data}, subsample_size=len(x)), "
            f"in model and guide; or train with all data as one batch, batch_size={num_data}"
        )
