"""RELAX: a relaxed control variate with a network of one's own added."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from ppl_vae.estimators.facts import Facts
from ppl_vae.estimators.relaxed_control import REBAR
from ppl_vae.estimators.relaxed_runs import NoisyParticles


class RELAX(REBAR):
    r"""As `REBAR`, with a network added to its control variate.

    .. math:: c(z) = \eta \, f\bigl(s(z)\bigr) + r\bigl(s(z), x\bigr)

    A lower bound, and unbiased gradients whatever r is; it and eta are trained along to less variance.

    Args:
        control: r, a network from the relaxed draws of all such sites beside the batch's first tensor, both
            flattened, (*batch, D + X), to (*batch, 1). Sites after the one that it serves are zeros there.
            What it shares with the pair it leaves to the pair to learn.
        num_particles: K.
        temperature: as of `REBAR`.

    Raises:
        ValueError, PairError: as `REBAR`; also for another output of the network.

    Grathwohl et al., Backpropagation through the Void, arXiv:1711.00123.
    """

    facts = Facts("lower", needs="bits or one-hot", paper="1711.00123")

    def __init__(self, control: nn.Module, num_particles: int = 1, temperature: float = 0.5) -> None:
        super().__init__(num_particles, temperature)
        self.control = control
        self.learned.control = control

    def _control(self, particles: NoisyParticles, site: str) -> tuple[Tensor, Tensor]:
        value, slope = super()._control(particles, site)
        z = particles.noisy[site].z.detach().requires_grad_()
        earlier = dict(particles.before(site))
        rows = []
        for name, noisy in particles.noisy.items():
            each = noisy.value if name in earlier else torch.zeros_like(noisy.z)
            if name == site:
                each = noisy.relaxed(z, self._temperature(z))
            rows.append(particles.rows(each, name))
        x = particles.args[0]
        if particles.subsample is not None and len(x) != particles.batch_size:
            x = x[particles.subsample]  # the plate took these of the rows
        seen = x.flatten(1).to(rows[0].dtype).expand(self.num_particles, -1, -1)
        found = self.control(torch.cat([*rows, seen], -1))
        if found.shape != (*value.shape, 1):
            raise ValueError(
                f"RELAX's control must give one number for each row, (*batch, 1), but its output has shape "
                f"{list(found.shape)}: end it with nn.Linear(..., 1)"
            )
        if found.requires_grad:  # a network may leave z out, or be a number
            (own,) = torch.autograd.grad(found.sum(), z, create_graph=True, allow_unused=True)
            slope = slope if own is None else slope + own.to(slope.dtype)
        return value + found.squeeze(-1).to(value.dtype), slope
