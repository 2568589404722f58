"""Scales from unconstrained outputs, with a floor and a cap, and the head that gives (loc, scale)."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from ppl_vae.nets.initialisation import initialise


def positive_scale(raw: Tensor, floor: float = 1e-4, cap: float = 1e2) -> Tensor:
    r"""Map an unconstrained output to a scale between a floor and a cap: exp(raw), smoothly limited.

    .. math:: \mathrm{scale} = \mathrm{floor} + (\mathrm{cap} - \mathrm{floor}) \, \sigma(\mathrm{raw} + b),
        \qquad b = \log \frac{1 - \mathrm{floor}}{\mathrm{cap} - 1}

    The map is smooth and strictly increasing, and `raw = 0` gives scale 1. Away from both ends it is
    the exponential, d log(scale) / d raw = 1, so `raw` is a log-scale; the two ends are approached and
    never crossed (up to one rounding), so no output of a net can make a density infinite or a
    gradient NaN. A sigmoid keeps its relative accuracy where it is small, which a difference of two
    softplus does not.

    Half-precision input is widened first: the result is float32 or wider.

    Args:
        raw: unconstrained, any shape.
        floor: the smallest scale, 0 < floor < 1.
        cap: the largest scale, 1 < cap < infinity.

    Returns:
        The scale, of the shape of `raw`.

    Raises:
        ValueError: unless 0 < floor < 1 < cap < infinity.

    >>> positive_scale(torch.tensor([-1e4, -2.0, 0.0, 1e4]))
    tensor([1.0000e-04, 1.3660e-01, 1.0000e+00, 1.0000e+02])
    """
    shift = _shift(floor, cap)
    return torch.sigmoid(at_least_float32(raw) + shift) * (cap - floor) + floor


def inverse_positive_scale(scale: Tensor, floor: float = 1e-4, cap: float = 1e2) -> Tensor:
    r"""The raw output for which `positive_scale` gives a wanted scale (to start a net or a bias at it).

    .. math:: \mathrm{raw} = \log \frac{\mathrm{scale} - \mathrm{floor}}{\mathrm{cap} - \mathrm{scale}} - b

    Args:
        scale: wanted scales, any shape, strictly between `floor` and `cap`.
        floor: as in `positive_scale`.
        cap: as in `positive_scale`.

    Raises:
        ValueError: if a scale is not strictly between the floor and the cap.

    >>> inverse_positive_scale(torch.tensor(1.0)).item()
    0.0
    """
    shift = _shift(floor, cap)
    if not bool(((scale > floor) & (scale < cap)).all()):
        raise ValueError(
            f"scale must lie strictly between the floor {floor:g} and the cap {cap:g}, got values from "
            f"{scale.min().item():g} to {scale.max().item():g}: clamp them or widen the range"
        )
    return torch.log((scale - floor) / (cap - scale)) - shift


def at_least_float32(x: Tensor) -> Tensor:
    """Widen half-precision tensors to float32 and leave the others as they are."""
    return x.float() if x.dtype in (torch.bfloat16, torch.float16) else x


def _shift(floor: float, cap: float) -> float:
    if not 0 < floor < 1 < cap < math.inf:
        raise ValueError(
            f"a scale needs 0 < floor < 1 < cap < infinity (raw = 0 stands for scale 1), "
            f"got floor={floor:g} and cap={cap:g}"
        )
    return math.log((1 - floor) / (cap - 1))


class LocScale(nn.Module):
    r"""The head of an encoder: one linear map of the features to a location and a scale.

    .. math:: \mathrm{loc}, \mathrm{raw} = \mathrm{split}(W \, \mathrm{features} + b), \qquad
        \mathrm{scale} = \mathrm{positive\_scale}(\mathrm{raw}, \mathrm{min\_scale}, \mathrm{max\_scale})

    Shapes: `(*batch, num_features)` to a pair of `(*batch, latent_dim)`, both float32 or wider.
    With zero rows in W the raw output, and so the scale, is constant in x.

    Args:
        num_features: width of the incoming features.
        latent_dim: dimension of the latent variable.
        min_scale: floor of the scale, see `positive_scale`.
        max_scale: cap of the scale, see `positive_scale`.

    Raises:
        ValueError: for a range of scales without 1 inside, or features of another width.

    >>> loc, scale = LocScale(num_features=8, latent_dim=2)(torch.zeros(5, 8))
    >>> loc.shape, scale.shape
    (torch.Size([5, 2]), torch.Size([5, 2]))
    """

    def __init__(
        self,
        num_features: int,
        latent_dim: int,
        min_scale: float = 1e-4,
        max_scale: float = 1e2,
    ) -> None:
        super().__init__()
        _shift(min_scale, max_scale)
        self.num_features = num_features
        self.latent_dim = latent_dim
        self.min_scale = min_scale
        self.max_scale = max_scale
        self.linear = nn.Linear(num_features, 2 * latent_dim)
        # Two maps in one matrix product: each is initialised for its own number of outputs.
        initialise(self.linear, parts=2)

    def forward(self, features: Tensor) -> tuple[Tensor, Tensor]:
        """Location and scale, each (*batch, latent_dim), from features, (*batch, num_features)."""
        if features.shape[-1] != self.num_features:
            raise ValueError(
                f"LocScale: expected features of shape (*batch, {self.num_features}), got "
                f"{tuple(features.shape)}: build the head or Encoder with num_features="
                f"{features.shape[-1]}"
            )
        loc, raw = at_least_float32(self.linear(features)).chunk(2, dim=-1)
        return loc, positive_scale(raw, self.min_scale, self.max_scale)

    def extra_repr(self) -> str:
        return f"min_scale={self.min_scale:g}, max_scale={self.max_scale:g}"
