"""What a pair's programs ask of their nets: Protocols, which a module fulfils without a base class.

The constructors of models, guides and priors are annotated with `nn.Module` all the same: from those
annotations the command line and a run's config make objects, and would refuse a class of a user's whose
methods are not annotated letter by letter as a Protocol's.
"""

from __future__ import annotations

from typing import Protocol, cast, runtime_checkable

from torch import Tensor


class LocScaleEncoder(Protocol):
    """An encoder: from x to the location and the scale of a latent variable.

    Shapes: `(*batch, *event)` to two tensors `(*batch, latent_dim)`, the scale positive, for any number of
    leading dims. A guide calls it with `(B, *event)`: it never meets the particles. What has a trunk and a
    head that a guide can put its own beside is an `Encoder`.
    """

    def __call__(self, x: Tensor, /) -> tuple[Tensor, Tensor]: ...


class Decoder(Protocol):
    """A decoder: from z to the raw output, of which a likelihood makes a distribution over x.

    Shapes: `(*batch, latent_dim)` to `(*batch, *likelihood.raw_shape(event))`, unconstrained, for any number
    of leading dims: `(B, ...)` and `(K, B, ...)`. One that has `latent_dim` (`HasLatentDim`) is held against
    its model's; one that has `output_bias` (`HasOutputBias`) can start at the mean of the data.
    """

    def __call__(self, z: Tensor, /) -> Tensor: ...


class HasLatentDim(Protocol):
    """A net, a prior or a model that says how many latent dimensions it was built for."""

    @property
    def latent_dim(self) -> int:
        """The number of latent dimensions."""
        ...


class HasOutputBias(Protocol):
    """A decoder that shows the bias of its last layer: one per output, `(prod(shape),)`,
    or one per channel.
    """

    @property
    def output_bias(self) -> Tensor:
        """The bias of the last layer."""
        ...


class ShapedEncoder(LocScaleEncoder, HasLatentDim, Protocol):
    """An encoder that says what it was built for: `latent_dim`, and the event shape of the data."""

    @property
    def shape(self) -> tuple[int, ...]:
        """The event shape of the data."""
        ...


@runtime_checkable
class HasInitialBias(Protocol):
    """A likelihood that knows which raw output gives a wanted mean."""

    def initial_bias(self, mean: Tensor) -> Tensor:
        """Map the mean of one datum, `(*event)`, to a raw output, of the decoder's event shape."""
        ...


# Not isinstance with a Protocol: from Python 3.12 on that does not see what a module's __getattr__ gives, a
# parameter, or anything of a module within torch.compile's.


def latent_dim_of(part: object) -> int | None:
    """The `latent_dim` that a net, a prior or a model was built for; None where it does not say.

    >>> from ppl_vae import nets
    >>> latent_dim_of(nets.MLPDecoder(latent_dim=2, shape=(5,))), latent_dim_of(None)
    (2, None)
    """
    try:
        return cast(HasLatentDim, part).latent_dim
    except AttributeError:
        return None


def known_latent_dim(model: object) -> int:
    """The `latent_dim` of a model.

    Raises:
        ValueError: where it does not say.
    """
    latent_dim = latent_dim_of(model)
    if not isinstance(latent_dim, int):
        raise ValueError(f"{type(model).__name__} has no latent_dim: give the model that attribute")
    return latent_dim


def require_latent_dim(name: str, part: object, latent_dim: int) -> None:
    """Raise ValueError for a part of a model that says it was built for another `latent_dim`."""
    built_for = latent_dim_of(part)
    if built_for not in (None, latent_dim):
        raise ValueError(f"latent_dim is {latent_dim} but the {name} was built for {built_for}")


def output_bias_of(decoder: object) -> Tensor | None:
    """The bias of a decoder's last layer; None where it does not show one."""
    try:
        bias = cast(HasOutputBias, decoder).output_bias
    except AttributeError:
        return None
    return bias if isinstance(bias, Tensor) else None
