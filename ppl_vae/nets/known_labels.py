"""Labels that must all be there and be classes, checked while Pyro validates."""

from __future__ import annotations

from pyro.distributions.util import is_validation_enabled
from torch import Tensor


def require_labels(y: Tensor, num_classes: int) -> None:
    """Raise ValueError, where Pyro validates, unless every label is a whole number in 0 ... num_classes - 1.

    >>> import torch
    >>> require_labels(torch.tensor([0, 2]), num_classes=3)
    """
    if not is_validation_enabled():
        return
    valid = (y >= 0) & (y < num_classes) & (y == y.round())
    if bool(valid.all()):
        return
    found = ", ".join(f"{value:g}" for value in y[~valid].unique()[:3].tolist())
    raise ValueError(
        f"labels y must be whole numbers in 0 ... {num_classes - 1}, found {found}: build the programs with "
        f"more classes, leave those data out, or use models.SemiSupervisedVAE where labels are missing"
    )
