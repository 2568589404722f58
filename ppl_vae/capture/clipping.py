"""Gradients as optimizers take them: bounded by the norm of all, and in memory as their parameters."""

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


def laid_out(tensor: Tensor, like: Tensor) -> Tensor:
    """The tensor, or a copy, with its numbers in memory as another has them: all that a kernel knows of."""
    if tensor.stride() == like.stride():
        return tensor
    return tensor.new_empty_strided(like.shape, like.stride()).copy_(tensor)
