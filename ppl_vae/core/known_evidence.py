"""Models whose evidence is known, against which every bound can be held."""

from __future__ import annotations

from typing import Protocol, runtime_checkable

from torch import Tensor


@runtime_checkable
class KnowsEvidence(Protocol):
    """A model with the evidence of its data in closed form, such as `models.LinearGaussian`."""

    def log_evidence(self, *batch: Tensor) -> Tensor:
        """log p(x) of each datum, exactly: a batch's tensors to (B,) nats."""
        ...
