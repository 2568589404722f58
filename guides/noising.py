"""The guides of diffusion models: data in more and more noise, with nothing to learn but the schedule."""

from __future__ import annotations

import pyro
import pyro.distributions as dist
import torch
from torch import Tensor, nn

from ppl_vae.distributions.diffusion import Noised
from ppl_vae.distributions.noise import noise_scale, signal, step_back
from ppl_vae.nets.noise_schedule import NoiseSchedule
from ppl_vae.nets.shapes import positive_size


class NoisingLadder(nn.Module):
    r"""A datum in noise at T + 1 levels, zT first: the guide of `models.DiffusionLadder`.

    .. math:: q(z_T \mid x) = \mathcal{N}(\alpha_T x, \sigma_T^2), \qquad q(z_{t-1} \mid z_t, x) =
        \mathcal{N}\left((1 - c_t) \frac{\alpha_{t-1}}{\alpha_t} z_t + c_t \alpha_{t-1} x, \; c_t
        \sigma_{t-1}^2\right)

    with :math:`c_t = 1 - e^{\gamma_{t-1} - \gamma_t}`, so that each :math:`z_t` alone is
    :math:`\mathcal{N}(\alpha_t x, \sigma_t^2)`. In the model's order, from the top down.

    Args:
        schedule: the model's, shared.
        num_steps: the model's T.

    Kingma, Salimans, Poole and Ho, Variational Diffusion Models, arXiv:2107.00630.
    """

    def __init__(self, schedule: nn.Module, num_steps: int = 50) -> None:
        super().__init__()
        self.schedule: NoiseSchedule = schedule  # type: ignore[assignment]
        self.num_steps = positive_size("num_steps", num_steps)

    def forward(self, x: Tensor) -> Tensor:
        """Draw zT, ..., z0 for each of the len(x) data; z0 comes back."""
        data, event_dim = self.schedule.embed(x), x.dim() - 1
        gammas = self.schedule(torch.linspace(0, 1, self.num_steps + 1, dtype=x.dtype, device=x.device))
        with pyro.plate("data", len(x), dim=-1):
            top = dist.Normal(signal(gammas[-1]) * data, noise_scale(gammas[-1])).to_event(event_dim)
            z = pyro.sample(f"z{self.num_steps}", top)
            for t in range(self.num_steps, 0, -1):
                loc, scale = step_back(z, data, gammas[t], gammas[t - 1])
                z = pyro.sample(f"z{t - 1}", dist.Normal(loc, scale).to_event(event_dim))
        return z


class Noising(nn.Module):
    r"""A datum in the noise of time 0: the guide of `models.Diffusion`.

    .. math:: q(z \mid x) = \mathcal{N}(\alpha_0 x, \sigma_0^2)

    Args:
        schedule: the model's, shared.

    Kingma, Salimans, Poole and Ho, Variational Diffusion Models, arXiv:2107.00630.
    """

    def __init__(self, schedule: nn.Module) -> None:
        super().__init__()
        self.schedule: NoiseSchedule = schedule  # type: ignore[assignment]

    def forward(self, x: Tensor) -> Tensor:
        """Draw z for each of the len(x) data."""
        with pyro.plate("data", len(x), dim=-1):
            return pyro.sample("z", Noised(self.schedule.embed(x), self.schedule, x.dim() - 1))
