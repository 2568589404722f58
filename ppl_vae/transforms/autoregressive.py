"""zuko's masked autoregressive transforms as flow guides want them: in either order,
at first the identity.
"""

from __future__ import annotations

import importlib
from collections.abc import Sequence

import torch
from torch import nn

from ppl_vae.transforms.zuko_support import zuko_flows


def masked_autoregressive(
    latent_dim: int, context_dim: int, hidden: Sequence[int], *, bins: int = 0, backwards: bool = False
) -> nn.Module:
    r"""A module from a context to an autoregressive transform: zuko's, started at the identity.

    .. math:: y_j = f(x_j; \theta_j), \qquad \theta_j = \mathrm{net}(x_{<j}, c)

    From x to y is one evaluation of the net, the way back takes d.

    Args:
        latent_dim: d.
        context_dim: width of the context c.
        hidden: widths of the net's hidden layers.
        bins: the pieces of f, a rational-quadratic spline; 0 for the affine f(x) = exp(s) x + m.
        backwards: let theta_j depend on x_{>j} instead.
    """
    flows, kinds = zuko_flows(), importlib.import_module("zuko.transforms")
    univariate = kinds.MonotonicRQSTransform if bins else kinds.MonotonicAffineTransform
    shapes = ((bins,), (bins,), (bins - 1,)) if bins else ((), ())
    order = torch.arange(latent_dim)
    lazy = flows.MaskedAutoregressiveTransform(
        latent_dim,
        context_dim,
        order=order.flip(0) if backwards else order,
        univariate=univariate,
        shapes=shapes,
        hidden_features=tuple(hidden),
        activation=nn.ELU,
    )
    last = list(lazy.hyper.children())[-1]
    nn.init.zeros_(last.weight)
    nn.init.zeros_(last.bias)
    module: nn.Module = lazy
    return module
