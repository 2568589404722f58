"""The pair that the command line trains: the user's two programs, or what fits the data in their place."""

from __future__ import annotations

from typing import Literal, cast

from torch import nn

from ppl_vae import guides, likelihoods, models, nets
from ppl_vae.cli.errors import UsageError
from ppl_vae.core.pair import Pair
from ppl_vae.data import DataSet
from ppl_vae.nets.contracts import HasInitialBias, latent_dim_of, output_bias_of

_NETS: dict[str, tuple[type[nn.Module], type[nn.Module]]] = {
    "mlp": (nets.MLPEncoder, nets.MLPDecoder),
    "conv": (nets.ConvEncoder, nets.ConvDecoder),
    "residual": (nets.ResidualEncoder, nets.ResidualDecoder),
}


def make_pair(
    dataset: DataSet,
    model: nn.Module | None = None,
    guide: nn.Module | None = None,
    latent_dim: int = 16,
    net: Literal["mlp", "conv", "residual"] = "mlp",
    hidden: tuple[int, ...] | None = None,
    likelihood: nn.Module | None = None,
    centre: bool = True,
) -> Pair:
    """A model and a guide; what is None is a variational autoencoder's, fitted to the data.

    Args:
        dataset: what the pair will be trained on.
        model: the generative model; by default `models.VAE`.
        guide: the guide; by default `guides.MeanField`.
        latent_dim: the number of latent dimensions of the default programs; beside a program of
            yours, its own `latent_dim`.
        net: the default programs' nets.
        hidden: widths of the hidden layers of net=mlp; by default two of 200.
        likelihood: the default model's likelihood; without one, of a table one for each column, Bernoulli
            for data in {0, 1}, else Gaussian with one learned scale.
        centre: start from the mean of the data: set the output bias of the model's decoder, where
            the model has a `decoder` and a `likelihood` that can.

    Raises:
        UsageError: when a program of yours does not say its `latent_dim`, or nothing takes the labels.
        ValueError: when the likelihood or the nets do not fit the data.
    """
    if model is None or guide is None:
        if dataset.train.with_labels:
            raise UsageError(
                "the default programs take x alone: leave --load.labels out, or give --model and --guide"
            )
        latent_dim = _latent_dim(model, guide, latent_dim)
    encoder, decoder = _NETS[net]
    widths: dict[str, tuple[int, ...]] = {} if hidden is None else {"hidden": hidden}
    if widths and net != "mlp":
        raise UsageError(f"--pair.hidden is of --pair.net mlp, and this is {net}: leave one of them out")
    if model is None:
        likelihood = fitting_likelihood(dataset) if likelihood is None else likelihood
        raw_shape = cast(likelihoods.Likelihood, likelihood).raw_shape(dataset.shape)
        net_of = decoder(latent_dim=latent_dim, shape=raw_shape, **widths)
        model = models.VAE(likelihood, net_of, latent_dim)
    if guide is None and dataset.schema is not None and net == "mlp":
        guide = guides.MeanField(nets.ColumnEncoder.of(dataset.schema, latent_dim, **widths))
    if guide is None:
        guide = guides.MeanField(encoder(shape=dataset.shape, latent_dim=latent_dim, **widths))
    if centre:
        centre_model(model, dataset)
    return Pair(model, guide)


def _latent_dim(model: nn.Module | None, guide: nn.Module | None, default: int) -> int:
    """The size that a default program must have beside the given one."""
    if model is None and guide is None:
        return default
    given = model if model is not None else getattr(guide, "encoder", guide)
    found = latent_dim_of(given)
    if not isinstance(found, int):
        missing = "--guide" if guide is None else "--model"
        raise UsageError(
            f"{type(given).__name__} has no latent_dim that the other program could be fitted to: "
            f"give {missing} too"
        )
    return found


def fitting_likelihood(dataset: DataSet) -> nn.Module:
    """Of a table one for each column; else Bernoulli for bits, or a Gaussian with a learned scale."""
    if dataset.schema is not None:
        return likelihoods.Mixed.of(dataset.schema)
    x = dataset.train.tensors(limit=1000)[0]
    event_dim = len(dataset.shape)
    if bool(((x == 0) | (x == 1)).all()):
        return likelihoods.Bernoulli(event_dim=event_dim)
    return likelihoods.Gaussian(scale="learned", event_dim=event_dim)


def centre_model(model: nn.Module, dataset: DataSet) -> None:
    """Start from the data's mean, where the model's parts can tell how."""
    decoder, likelihood = getattr(model, "decoder", None), getattr(model, "likelihood", None)
    if decoder is None or output_bias_of(decoder) is None:
        return
    if isinstance(likelihood, HasInitialBias):
        nets.centre_output(decoder, likelihood, dataset.train.mean()[None])
