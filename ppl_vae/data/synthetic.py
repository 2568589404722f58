"""Vectors drawn from a model that is known: `linear_gaussian`, `pinwheel`, `counts`."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from ppl_vae.data.binarise import numpy_generator
from ppl_vae.data.data_error import DataError
from ppl_vae.data.dataset import DRAW, Loaded, Part
from ppl_vae.data.rows import ResidentRows

Size = tuple[int, int] | None

LATENT_DIM, DATA_DIM, NOISE = 3, 10, 0.5
ARMS = 5
GROUPS, NUM_COUNTS, TOTAL_COUNT = 4, 50, 5.0


class LinearGaussianTruth(NamedTuple):
    """The parameters of `linear_gaussian`, float32: weight (10, 3), bias (10,) and the noise's scale."""

    weight: Tensor
    bias: Tensor
    scale: float


def linear_gaussian_truth(seed: int = 0) -> LinearGaussianTruth:
    """What `load("linear_gaussian", seed=seed)` was drawn from: the exact evidence is known with it.

    >>> from ppl_vae.data import synthetic
    >>> synthetic.linear_gaussian_truth().weight.shape
    torch.Size([10, 3])
    """
    return _linear_gaussian_truth(numpy_generator(seed, DRAW))


def linear_gaussian(num_data: int, rng: np.random.Generator, size: Size) -> Loaded:
    r"""x = W z + b + 0.5 e with z (3,) and e (10,) standard normal; W and b are drawn by the seed too.

    The factors are z.
    """
    _no_size("linear_gaussian", size)
    truth = _linear_gaussian_truth(rng)
    z = rng.standard_normal((num_data, LATENT_DIM))
    noise = truth.scale * rng.standard_normal((num_data, DATA_DIM))
    x = z @ truth.weight.double().numpy().T + truth.bias.double().numpy() + noise
    return _loaded(x, None, z)


def _linear_gaussian_truth(rng: np.random.Generator) -> LinearGaussianTruth:
    weight = rng.standard_normal((DATA_DIM, LATENT_DIM)).astype(np.float32)
    bias = rng.standard_normal(DATA_DIM).astype(np.float32)
    return LinearGaussianTruth(torch.from_numpy(weight), torch.from_numpy(bias), NOISE)


def pinwheel(num_data: int, rng: np.random.Generator, size: Size) -> Loaded:
    """Five arms of a whirl in the plane, the labels say which (Johnson et al., arXiv:1603.06277).

    The factors are the place along the arm and across it, before the whirl.
    """
    _no_size("pinwheel", size)
    arm = rng.integers(ARMS, size=num_data)
    along = 1 + 0.3 * rng.standard_normal(num_data)
    across = 0.05 * rng.standard_normal(num_data)
    angle = 2 * np.pi * arm / ARMS + 0.25 * np.exp(along)
    x = np.stack(
        [along * np.cos(angle) - across * np.sin(angle), along * np.sin(angle) + across * np.cos(angle)], 1
    )
    return _loaded(2 * x, arm, np.stack([along, across], 1), ("along", "across"))


def counts(num_data: int, rng: np.random.Generator, size: Size) -> Loaded:
    """Fifty overdispersed counts a datum, from a latent in the plane that lies in one of four groups.

    x is negative binomial with total count 5 and mean exp(W z + b); the labels are the groups, the
    factors are z. The sums of a row vary as those of gene counts do.
    """
    _no_size("counts", size)
    weight = 0.7 * rng.standard_normal((NUM_COUNTS, 2))
    bias = rng.normal(1.0, 0.7, NUM_COUNTS)
    group = rng.integers(GROUPS, size=num_data)
    angle = 2 * np.pi * group / GROUPS
    z = 1.5 * np.stack([np.cos(angle), np.sin(angle)], 1) + 0.35 * rng.standard_normal((num_data, 2))
    mean = np.exp(z @ weight.T + bias)
    x = rng.negative_binomial(TOTAL_COUNT, TOTAL_COUNT / (TOTAL_COUNT + mean))
    return _loaded(x, group, z)


def _loaded(
    x: np.ndarray, y: np.ndarray | None, factors: np.ndarray, names: tuple[str, ...] | None = None
) -> Loaded:
    # float32 though counts are whole: whole bytes would be taken for images or bits
    rows = ResidentRows(torch.from_numpy(x.astype(np.float32)))
    labels = None if y is None else torch.from_numpy(y.astype(np.int64))
    known = torch.from_numpy(factors.astype(np.float32))
    names = names or tuple(f"z{i}" for i in range(known.shape[1]))
    return Loaded(Part(rows, labels, known), factor_names=names)


def _no_size(name: str, size: Size) -> None:
    if size is not None:
        raise DataError(f"{name} holds vectors, which have no image_size; leave it out")
