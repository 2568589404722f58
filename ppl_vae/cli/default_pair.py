"""The pair that `ppl-vae train` takes when it is given none, and the other half of a half-given one."""

from __future__ import annotations

from typing import Literal

import torch
from torch import nn

from ppl_vae import guides, likelihoods, models, nets
from ppl_vae.cli.errors import UsageError
from ppl_vae.data import DataSet
from ppl_vae.pair import Pair

Net = Literal["mlp", "conv", "residual"]

_NETS: dict[str, tuple[type[nn.Module], type[nn.Module]]] = {
    "mlp": (nets.MLPEncoder, nets.MLPDecoder),
    "conv": (nets.ConvEncoder, nets.ConvDecoder),
    "residual": (nets.ResidualEncoder, nets.ResidualDecoder),
}


def default_pair(
    dataset: DataSet,
    latent_dim: int = 16,
    net: Net = "mlp",
    likelihood: nn.Module | None = None,
    centre: bool = True,
) -> Pair:
    """A variational autoencoder with a mean-field guide, fitted to the shape of the data.

    Args:
        dataset: what the pair will be trained on.
        latent_dim: the number of latent dimensions.
        net: the default pair's nets.
        likelihood: the default pair's likelihood; without one Bernoulli for data in {0, 1}, else
            Gaussian with one learned scale.
        centre: start from the mean of the data: set the output bias of the model's decoder.

    Raises:
        ValueError: when the likelihood or the nets do not fit the data.
    """
    likelihood = fitting_likelihood(dataset) if likelihood is None else likelihood
    raw_shape = likelihood.raw_shape(dataset.shape)  # type: ignore[operator]
    decoder = _NETS[net][1](latent_dim=latent_dim, shape=raw_shape)
    pair = Pair(
        models.VAE(likelihood, decoder, latent_dim),
        guides.MeanField(_NETS[net][0](shape=dataset.shape, latent_dim=latent_dim)),
    )
    if centre:
        centre_model(pair, dataset)
    return pair


def complete_pair(
    model: nn.Module | None,
    guide: nn.Module | None,
    dataset: DataSet,
    latent_dim: int,
    net: Net,
    likelihood: nn.Module | None,
    centre: bool,
) -> Pair:
    """The pair of a model and a guide; what is None comes from the default pair, with the other's `latent_dim`.

    Raises:
        UsageError: for half a pair that does not say its `latent_dim`, or labels that nobody takes.
    """
    if model is not None and guide is not None:
        pair = Pair(model, guide)
        if centre:
            centre_model(pair, dataset)
        return pair
    if dataset.train.with_labels:
        raise UsageError("the default programs take x alone: leave --load.labels out, or give --model and --guide")
    given = model if model is not None else getattr(guide, "encoder", guide)
    if given is not None:
        missing = "--guide" if guide is None else "--model"
        found = getattr(given, "latent_dim", None)
        if not isinstance(found, int):
            raise UsageError(f"{type(given).__name__} has no latent_dim to fit the other program to: give {missing} too")
        latent_dim = found
    default = default_pair(dataset, latent_dim, net, likelihood, centre=False)
    pair = Pair(default.model if model is None else model, default.guide if guide is None else guide)
    if centre:
        centre_model(pair, dataset)
    return pair


def fitting_likelihood(dataset: DataSet) -> nn.Module:
    """Bernoulli for bits, else a Gaussian with a learned scale."""
    x = dataset.train.tensors(limit=1000)[0]
    event_dim = len(dataset.shape)
    if bool(((x == 0) | (x == 1)).all()):
        return likelihoods.Bernoulli(event_dim=event_dim)
    return likelihoods.Gaussian(scale="learned", event_dim=event_dim)


def centre_model(pair: Pair, dataset: DataSet) -> None:
    """Start from the data's mean, where the model's parts can tell how."""
    decoder = getattr(pair.model, "decoder", None)
    likelihood = getattr(pair.model, "likelihood", None)
    if isinstance(getattr(decoder, "output_bias", None), torch.Tensor) and hasattr(likelihood, "initial_bias"):
        nets.centre_output(decoder, likelihood, dataset.train.mean()[None])
