"""Gradients bounded by the norm of all of them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import torch
from torch import Tensor


def clip(gradients: Mapping[int, Tensor], largest: float) -> dict[int, Tensor]:
    """The gradients with the norm of all of them at most `largest`, as `nn.utils.clip_grad_norm_` does it."""
    if not gradients:
        return {}
    factor = (largest / (norm_of(gradients.values()) + 1e-6)).clamp_max(1.0)
    return {name: gradient * factor for name, gradient in gradients.items()}


def norm_of(gradients: Iterable[Tensor]) -> Tensor:
    """The norm of all of them together, as `nn.utils.clip_grad_norm_` takes it."""
    norms = [torch.linalg.vector_norm(gradient) for gradient in gradients]
    return torch.linalg.vector_norm(torch.stack(norms))
