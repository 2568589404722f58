"""Multilayer perceptrons: the building block, an encoder and a decoder."""

from __future__ import annotations

import math

from torch import Tensor, nn

from ppl_vae.nets.activations import Activation, activation_layer, check_activation, width_factor
from ppl_vae.nets.encoder import Encoder
from ppl_vae.nets.initialisation import initialise
from ppl_vae.nets.shapes import Flatten, check_event, positive_size, positive_sizes


class BatchNorm(nn.Module):
    """Batch normalisation of `(*batch, num_features)` over all leading dims (arXiv:1502.03167).

    Args:
        num_features: width of the last dim.
    """

    def __init__(self, num_features: int) -> None:
        super().__init__()
        self.num_features = num_features
        self.norm = nn.BatchNorm1d(num_features)

    def forward(self, x: Tensor) -> Tensor:
        normed: Tensor = self.norm(x.reshape(math.prod(x.shape[:-1]), self.num_features))
        return normed.view(x.shape)


class MLP(nn.Module):
    r"""A multilayer perceptron over the last dim.

    .. math:: h_0 = x, \qquad h_l = \mathrm{activation}(W_l h_{l-1} + b_l), \qquad
        \mathrm{output} = W h_L + b \ \text{ if out\_features is given}

    Shapes: `(*batch, in_features)` to `(*batch, num_features)`, where `num_features` is `out_features` or,
    without it, the last hidden width; with `hidden=()` as well the net is the identity.

    Args:
        in_features: width of the input.
        hidden: widths of the hidden layers.
        out_features: width of a last, linear layer; None for no such layer.
        activation: `tanh`, `relu`, `leaky_relu`, `elu`, `gelu`, `silu` or `gated` (the gated layer of
            arXiv:1705.07120). Decides the initial weights too, see `initialise`.
        batch_norm: normalise each hidden layer over the batch before its activation. Couples the data of a
            batch: the bound of one datum then depends on the others while training.
        dropout: probability of dropping a hidden unit while training.

    Raises:
        ValueError: for an unknown activation, a width below 1, dropout outside [0, 1), or an input of
            another width.

    >>> import torch
    >>> MLP(784, hidden=(200, 200), out_features=10)(torch.zeros(3, 5, 784)).shape
    torch.Size([3, 5, 10])
    """

    def __init__(
        self,
        in_features: int,
        hidden: tuple[int, ...] = (200, 200),
        out_features: int | None = None,
        activation: Activation = "tanh",
        batch_norm: bool = False,
        dropout: float = 0.0,
    ) -> None:
        super().__init__()
        check_activation(activation)
        if not 0 <= dropout < 1:
            raise ValueError(f"dropout must be a probability in [0, 1), got {dropout!r}")
        self.in_features = positive_size("in_features", in_features)
        self.hidden = positive_sizes("hidden", hidden)
        self.out_features = out_features
        self.activation = activation
        self.batch_norm = batch_norm
        self.dropout = dropout

        layers: list[nn.Module] = []
        width = in_features
        for units in self.hidden:
            factor = width_factor(activation)
            linear = nn.Linear(width, factor * units)
            initialise(linear, activation, parts=factor)
            layers.append(linear)
            if batch_norm:
                layers.append(BatchNorm(factor * units))
            layers.append(activation_layer(activation))
            if dropout:
                layers.append(nn.Dropout(dropout))
            width = units
        if out_features is not None:
            output = nn.Linear(width, positive_size("out_features", out_features))
            initialise(output)
            layers.append(output)
            width = out_features
        self.num_features = width
        self.layers = nn.Sequential(*layers)

    def forward(self, x: Tensor) -> Tensor:
        """(*batch, num_features) from (*batch, in_features)."""
        check_event(x, (self.in_features,))
        out: Tensor = self.layers(x)
        return out


class MLPEncoder(Encoder):
    r"""An encoder whose trunk is a multilayer perceptron; `hidden=()` makes it linear.

    .. math:: \mathrm{loc}, \mathrm{scale} = \mathrm{head}(\mathrm{MLP}(\mathrm{flatten}(x)))

    Shapes: `(*batch, *shape)` to a pair of `(*batch, latent_dim)`.

    Args:
        shape: event shape of the data, such as (1, 28, 28) or (784,).
        latent_dim: dimension of the latent variable.
        hidden: widths of the hidden layers.
        activation: see `MLP`.
        batch_norm: see `MLP`.
        dropout: see `MLP`.
        min_scale: floor of the scale, see `positive_scale`.
        max_scale: cap of the scale, see `positive_scale`.

    Raises:
        ValueError: for bad sizes or options, or an input of another event shape.

    >>> import torch
    >>> loc, scale = MLPEncoder((1, 8, 8), latent_dim=2)(torch.zeros(5, 1, 8, 8))
    >>> loc.shape, scale.shape
    (torch.Size([5, 2]), torch.Size([5, 2]))
    """

    def __init__(
        self,
        shape: tuple[int, ...],
        latent_dim: int,
        hidden: tuple[int, ...] = (200, 200),
        activation: Activation = "tanh",
        batch_norm: bool = False,
        dropout: float = 0.0,
        min_scale: float = 1e-4,
        max_scale: float = 1e2,
    ) -> None:
        flatten = Flatten(shape)
        mlp = MLP(flatten.num_features, hidden, None, activation, batch_norm, dropout)
        trunk = nn.Sequential(flatten, mlp) if mlp.hidden else flatten
        super().__init__(trunk, mlp.num_features, latent_dim, min_scale, max_scale)
        self.shape = flatten.shape
        self.hidden = mlp.hidden
        self.activation = activation
        self.batch_norm = batch_norm
        self.dropout = dropout


class MLPDecoder(nn.Module):
    r"""A decoder that is a multilayer perceptron; `hidden=()` makes it linear.

    .. math:: \mathrm{raw} = \mathrm{unflatten}(W \, \mathrm{MLP}(z) + b)

    Shapes: `(*batch, latent_dim)` to `(*batch, *shape)`, unconstrained. `output_bias` is b, one per output.

    Args:
        latent_dim: dimension of the latent variable.
        shape: event shape of the output: `likelihood.raw_shape(event shape of the data)`.
        hidden: widths of the hidden layers.
        activation: see `MLP`.
        batch_norm: see `MLP`.
        dropout: see `MLP`.

    Raises:
        ValueError: for bad sizes or options, or an input of another width.

    >>> import torch
    >>> MLPDecoder(latent_dim=2, shape=(1, 8, 8))(torch.zeros(3, 5, 2)).shape
    torch.Size([3, 5, 1, 8, 8])
    """

    def __init__(
        self,
        latent_dim: int,
        shape: tuple[int, ...],
        hidden: tuple[int, ...] = (200, 200),
        activation: Activation = "tanh",
        batch_norm: bool = False,
        dropout: float = 0.0,
    ) -> None:
        super().__init__()
        self.latent_dim = positive_size("latent_dim", latent_dim)
        self.shape = positive_sizes("shape", shape, minimum=1)
        self.activation = activation
        self.batch_norm = batch_norm
        self.dropout = dropout
        self.mlp = MLP(latent_dim, hidden, math.prod(self.shape), activation, batch_norm, dropout)
        self.hidden = self.mlp.hidden

    @property
    def output_bias(self) -> nn.Parameter:
        """The bias of the last layer, `(prod(shape),)`."""
        return self.mlp.layers[-1].bias  # type: ignore[return-value]

    def forward(self, z: Tensor) -> Tensor:
        """(*batch, *shape): the raw output at codes z, (*batch, latent_dim)."""
        raw: Tensor = self.mlp(z)
        return raw.unflatten(-1, self.shape) if len(self.shape) > 1 else raw
