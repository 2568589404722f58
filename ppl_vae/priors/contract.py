"""What every prior offers."""

from __future__ import annotations

from typing import Protocol

import pyro.distributions as dist


class Prior(Protocol):
    """p(z) as a module, called without arguments; what is learned in it is trained, saved and loaded.

    Shapes: a distribution of batch shape `()` and event shape `(latent_dim,)`, or of one-hot codes
    `(num_codes, num_values)` with `latent_dim` numbers in all, made of tensors on the
    module's own device, which broadcasts over data and particles. One that has `latent_dim` is held against
    its model's. Its support is that of the pair's guide; where both are of one family the KL is in closed
    form.
    """

    def __call__(self) -> dist.Distribution: ...
