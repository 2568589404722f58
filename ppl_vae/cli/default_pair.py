"""The pair that the command line trains: the user's two programs, or what fits the data in their place."""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Literal, cast

import jsonargparse
from torch import nn

from ppl_vae import guides, likelihoods, models, nets
from ppl_vae.cli.default_sequences import bits_or_reals, is_sequences, pair_for_sequences, steps_of
from ppl_vae.cli.errors import UsageError
from ppl_vae.core.pair import Pair
from ppl_vae.data import DataSet
from ppl_vae.data.schema import MISSING
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

    Data with labels have a conditional one, p(x | y), and with few labels a semi-supervised one, p(x, y);
    strings one that writes symbol after symbol, and sequences with lengths a deep Markov model.

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
        UsageError: when a program of yours does not say its `latent_dim`, or labels come with one of the two.
        ValueError: when the likelihood or the nets do not fit the data.
    """
    if model is None or guide is None:
        if dataset.train.with_labels and (model is not None or guide is not None):
            lacking = "--guide" if guide is None else "--model"
            raise UsageError(
                f"the default programs for labels come as a pair: leave --load.labels out, or give {lacking}"
            )
        latent_dim = _latent_dim(model, guide, latent_dim)
        if dataset.alphabet is not None or is_sequences(dataset):
            return pair_for_sequences(dataset, model, guide, latent_dim, net, hidden, likelihood, centre)
    encoder, decoder = _NETS[net]
    widths: dict[str, tuple[int, ...]] = {} if hidden is None else {"hidden": hidden}
    if widths and net != "mlp":
        raise UsageError(f"--pair.hidden is of --pair.net mlp, and this is {net}: leave one of them out")
    encoder_of: Callable[[], Any] = functools.partial(encoder, dataset.shape, latent_dim=latent_dim, **widths)
    if dataset.schema is not None and net == "mlp":
        encoder_of = functools.partial(nets.ColumnEncoder.of, dataset.schema, latent_dim=latent_dim, **widths)
    classes = Classes.of(dataset)
    if model is None:
        likelihood = fitting_likelihood(dataset) if likelihood is None else likelihood
        raw_shape = cast(likelihoods.Likelihood, likelihood).raw_shape(dataset.shape)
        size = latent_dim + (0 if classes is None else classes.number)
        net_of = decoder(latent_dim=size, shape=raw_shape, **widths)
        model = _default_model(likelihood, net_of, latent_dim, classes)
    if guide is None:
        guide = _default_guide(encoder_of, classes)
    if centre:
        centre_model(model, dataset)
    return Pair(model, guide)


@dataclass(frozen=True)
class Classes:
    """The classes of data whose batches hold labels.

    Attributes:
        number: C.
        some_missing: whether the training part has data without a label.
    """

    number: int
    some_missing: bool

    @classmethod
    def of(cls, dataset: DataSet) -> Classes | None:
        """Those of a data set; None where its batches hold no labels."""
        if not dataset.train.with_labels:
            return None
        known = [split.y for split in dataset.parts().values() if split.y is not None]
        train = dataset.train.y
        assert train is not None
        return cls(1 + max(int(y.max()) for y in known), bool((train == MISSING).any()))


def sum_over_classes(options: jsonargparse.Namespace, dataset: DataSet, words: Sequence[str]) -> None:
    """The default bound of the semi-supervised pair: MeanFieldELBO's equal that sums over the classes."""
    chosen = any(word.partition("=")[0].startswith("--estimator") for word in words)
    is_default = options.estimator.class_path == "ppl_vae.estimators.MeanFieldELBO"
    if is_default and not chosen and _is_semi_supervised(dataset, options):
        given = {**vars(options.estimator.init_args), "closed_form": True}
        options.estimator = jsonargparse.Namespace(
            class_path="ppl_vae.estimators.EnumeratedELBO", init_args=jsonargparse.Namespace(**given)
        )


def _is_semi_supervised(dataset: DataSet, options: jsonargparse.Namespace) -> bool:
    """Whether the default pair for the data is the semi-supervised one."""
    classes = Classes.of(dataset)
    return options.model is None and options.guide is None and classes is not None and classes.some_missing


def _default_model(
    likelihood: nn.Module, decoder: nn.Module, latent_dim: int, classes: Classes | None
) -> nn.Module:
    if classes is None:
        return models.VAE(likelihood, decoder, latent_dim)
    kind = models.SemiSupervisedVAE if classes.some_missing else models.ConditionalVAE
    return kind(likelihood, decoder, latent_dim, classes.number)


def _default_guide(encoder_of: Callable[[], nets.Encoder], classes: Classes | None) -> nn.Module:
    encoder = encoder_of()
    if classes is None:
        return guides.MeanField(encoder)
    if not classes.some_missing:
        return guides.Conditional(encoder, classes.number)
    width = encoder.num_features
    # few labels are soon known by heart
    classifier = nn.Sequential(encoder_of().trunk, nn.Dropout(0.5), nets.MLP(width, (), classes.number))
    beside_label = nets.MLPEncoder((width + classes.number,), encoder.latent_dim, hidden=(width,))
    # without the mark estimators that do not know it can be compared too
    return guides.SemiSupervised(classifier, encoder.trunk, beside_label, classes.number, enumerate=False)


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
    return bits_or_reals(dataset.train.tensors(limit=1000)[0], len(dataset.shape))


def centre_model(model: nn.Module, dataset: DataSet) -> None:
    """Start from the data's mean, where the model's parts can tell how."""
    decoder, likelihood = getattr(model, "decoder", None), getattr(model, "likelihood", None)
    if decoder is None or output_bias_of(decoder) is None:
        return
    if isinstance(likelihood, HasInitialBias):
        by_step = isinstance(model, models.DeepMarkov) and is_sequences(dataset)
        nets.centre_output(decoder, likelihood, steps_of(dataset) if by_step else dataset.train.mean()[None])
