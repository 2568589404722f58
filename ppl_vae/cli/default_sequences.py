"""The pair that the command line trains on strings and on sequences: what fits them, where none is given."""

from __future__ import annotations

from typing import Any, cast

import torch
from torch import Tensor, nn

from ppl_vae import guides, likelihoods, models, nets
from ppl_vae.cli.errors import UsageError
from ppl_vae.core.pair import Pair
from ppl_vae.data import DataSet
from ppl_vae.data.array_shapes import are_lengths
from ppl_vae.nets.contracts import HasInitialBias

LENGTH = "length"
WIDTH = 128


def is_sequences(dataset: DataSet) -> bool:
    """Whether x is (T, F) for each datum, and beside it stands how many of the T steps are there."""
    if len(dataset.shape) != 2 or dataset.train.arrays().get(LENGTH) != ():
        return False
    length = _of(dataset, LENGTH)
    return are_lengths(length.numpy(), (len(length), *dataset.shape))


def pair_for_sequences(
    dataset: DataSet,
    model: nn.Module | None,
    guide: nn.Module | None,
    latent_dim: int,
    net: str,
    hidden: tuple[int, ...] | None,
    likelihood: nn.Module | None,
    centre: bool,
) -> Pair:
    """As `default_pair.make_pair`, of strings, and of sequences with lengths.

    Raises:
        UsageError: for options that such a pair has no place for.
    """
    kind = "strings" if dataset.alphabet is not None else "sequences"
    if net != "mlp":
        raise UsageError(f"--pair.net {net} is for images, and {dataset.name} holds {kind}: leave it out")
    if hidden is not None and len(hidden) != 1:
        raise UsageError(
            f"of {kind} --pair.hidden is one width, of the nets that read and write them, got {list(hidden)}"
        )
    width = WIDTH if hidden is None else hidden[0]
    if dataset.alphabet is not None:
        return _of_strings(dataset, model, guide, latent_dim, width, likelihood)
    if model is not None or guide is not None:
        lacking = "--guide" if guide is None else "--model"
        raise UsageError(f"the default programs for sequences come as a pair: give {lacking} too")
    return _of_sequences(dataset, latent_dim, width, likelihood, centre)


def _of_strings(
    dataset: DataSet,
    model: nn.Module | None,
    guide: nn.Module | None,
    latent_dim: int,
    width: int,
    likelihood: nn.Module | None,
) -> Pair:
    assert dataset.alphabet is not None
    symbols, (length,) = len(dataset.alphabet), dataset.shape
    if model is None:
        writer: Any = likelihood or likelihoods.Strings(symbols, length, hidden=width)
        decoder = nets.MLPDecoder(latent_dim, writer.raw_shape(dataset.shape), ())
        model = models.VAE(writer, decoder, latent_dim)
    if guide is None:
        guide = guides.MeanField(nets.StringEncoder(symbols, length, latent_dim, max(1, width // 2)))
    return Pair(model, guide)


def _of_sequences(
    dataset: DataSet, latent_dim: int, width: int, likelihood: nn.Module | None, centre: bool
) -> Pair:
    steps = steps_of(dataset)
    if likelihood is None:
        likelihood = bits_or_reals(steps, event_dim=1)
    (features,) = step = dataset.shape[1:]
    raw_shape = cast(likelihoods.Likelihood, likelihood).raw_shape(step)
    decoder = nets.MLPDecoder(latent_dim, raw_shape, (width, width), "relu")
    if centre and len(steps) and isinstance(likelihood, HasInitialBias):
        nets.centre_output(decoder, likelihood, steps)
    transition = nets.GatedTransition(latent_dim, width)
    model = models.DeepMarkov(likelihood, decoder, transition, latent_dim)
    reader = nets.Recurrent(features, width)
    combiner = nets.Combiner(latent_dim, reader.num_features, width)
    return Pair(model, guides.Smoothing(reader, combiner, latent_dim))


def bits_or_reals(x: Tensor, event_dim: int) -> nn.Module:
    """Bernoulli for bits, else a Gaussian with a learned scale."""
    if bool(((x == 0) | (x == 1)).all()):
        return likelihoods.Bernoulli(event_dim=event_dim)
    return likelihoods.Gaussian(scale="learned", event_dim=event_dim)


def steps_of(dataset: DataSet) -> Tensor:
    """(n, F): the steps that are there, of as many sequences as tell how to begin."""
    x, length = _of(dataset, dataset.train.naming.main), _of(dataset, LENGTH)
    return x[torch.arange(x.shape[1]) < length[:, None]]


def _of(dataset: DataSet, name: str) -> Tensor:
    (found,) = dataset.train.choose((name,)).tensors(limit=1000)
    return found.cpu()
