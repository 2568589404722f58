"""A datum in a little noise, and what a denoiser makes of pure noise: a diffusion in one site."""

from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise
from typing import Any, ClassVar, Protocol

import pyro.distributions as dist
import torch
from torch import Tensor
from torch.distributions import constraints, register_kl

from ppl_vae.core.density import WAY_OUT
from ppl_vae.core.sites import PairError
from ppl_vae.distributions.noise import noise_scale, signal, step_back, without_noise


class Schedule(Protocol):
    """The level of noise at times from 0 to 1, and its derivative: `nets.NoiseSchedule`."""

    def __call__(self, time: Tensor, /) -> Tensor: ...

    def slope(self, time: Tensor, /) -> Tensor:
        """The derivative of the level, of the shape of `time`."""
        ...


class Noised(dist.Independent):
    r"""A datum in the noise of time 0, :math:`q(z_0 \mid x) = \mathcal{N}(\alpha_0 x, \sigma_0^2)`.

    Args:
        data: x, (*batch, *event), in the schedule's units.
        schedule: of the noise.
        event_dim: how many dims an event has.
    """

    def __init__(
        self, data: Tensor, schedule: Schedule, event_dim: int, validate_args: bool | None = None
    ) -> None:
        self.data, self.schedule = data, schedule
        gamma = schedule(data.new_zeros(()))
        super().__init__(dist.Normal(signal(gamma) * data, noise_scale(gamma)), event_dim, validate_args)

    def expand(self, batch_shape: Any, _instance: Any = None) -> Noised:
        data = self.data.expand(torch.Size(batch_shape) + self.event_shape)
        return Noised(data, self.schedule, len(self.event_shape), self._validate_args)


class Denoised(dist.TorchDistribution):
    r"""What T steps from pure noise lead to, :math:`z_T \sim \mathcal{N}(0, I), \ldots, p(z_s \mid z_t)`.

    Of one site, z_0: its density would be an integral over all that lies between. What is known is the
    divergence of the whole way from that of a datum,

    .. math:: \mathrm{KL}\bigl(q(z_1 \mid x) \,\|\, p(z_1)\bigr) + \mathbb{E}_{t, \epsilon} \left[\tfrac12
        \gamma'(t) \, \lVert \epsilon - \hat\epsilon(z_t, \gamma_t) \rVert^2\right]

    with infinitely many steps; with T the factor is :math:`\frac T2 (e^{\gamma_t - \gamma_s} - 1)`. It is at
    least KL(q(z_0 | x) || p(z_0)), and taken at a random time and noise for each datum, without bias. So its
    mean is what a bound needs, while that of one datum scatters.

    Args:
        denoiser: a `nets.Denoiser`.
        schedule: of the noise.
        like: (*event), for the type and the device.
        num_steps: T; None for infinitely many.
        sampling_steps: of a draw, where there is no T.

    Raises:
        PairError: from `log_prob`.

    Kingma, Salimans, Poole and Ho, Variational Diffusion Models, arXiv:2107.00630.
    """

    arg_constraints: ClassVar[dict[str, Any]] = {}
    has_density: ClassVar[bool] = False

    def __init__(
        self,
        denoiser: Callable[[Tensor, Tensor], Tensor],
        schedule: Schedule,
        like: Tensor,
        num_steps: int | None = None,
        sampling_steps: int = 100,
        validate_args: bool | None = None,
    ) -> None:
        self.denoiser, self.schedule, self.like = denoiser, schedule, like
        self.num_steps, self.sampling_steps = num_steps, sampling_steps
        super().__init__(torch.Size(), like.shape, validate_args=validate_args)

    @property
    def support(self) -> constraints.Constraint:
        return constraints.independent(constraints.real, len(self.event_shape))

    def expand(self, batch_shape: Any, _instance: Any = None) -> Denoised:
        new: Denoised = self._get_checked_instance(Denoised, _instance)
        new.denoiser, new.schedule, new.like = self.denoiser, self.schedule, self.like
        new.num_steps, new.sampling_steps = self.num_steps, self.sampling_steps
        super(Denoised, new).__init__(torch.Size(batch_shape), self.event_shape, validate_args=False)
        new._validate_args = self._validate_args
        return new

    def log_prob(self, value: Tensor) -> Tensor:
        raise PairError(f"Denoised has no density that can be computed. {WAY_OUT}")

    def sample(self, sample_shape: Any = ()) -> Tensor:
        """z_0, by all the steps from pure noise."""
        with torch.no_grad():
            shape = self._extended_shape(torch.Size(sample_shape))
            z = torch.randn(shape, dtype=self.like.dtype, device=self.like.device)
            steps = self.num_steps or self.sampling_steps
            levels = self.schedule(torch.linspace(1, 0, steps + 1, dtype=z.dtype, device=z.device))
            for gamma, below in pairwise(levels):
                guess = without_noise(z, self.denoiser(z, gamma), gamma)
                loc, scale = step_back(z, guess, gamma, below)
                z = loc + scale * torch.randn_like(z)
            return z


@register_kl(Noised, Denoised)
def _divergence(q: Noised, p: Denoised) -> Tensor:
    """(*batch,): an estimate without bias of the divergence of the two ways, at a random time a datum."""
    if q.schedule is not p.schedule:
        raise PairError(
            "the guide's noise and the model's follow two schedules, between which no divergence is known: "
            "give both programs one nets.NoiseSchedule, as in guides.Noising(model.schedule)"
        )
    data, events = q.data, tuple(range(-len(q.event_shape), 0))
    last = p.schedule(data.new_ones(()))
    variance, alpha = noise_scale(last).square(), signal(last)
    ending = 0.5 * ((alpha * data).square() + variance - 1 - variance.log()).sum(events)
    time = spread(data.new_zeros(q.batch_shape))
    if p.num_steps is None:
        gamma, factor = p.schedule(time), 0.5 * p.schedule.slope(time)
    else:
        place = (time * p.num_steps).floor().clamp_max(p.num_steps - 1)
        gamma, below = p.schedule((place + 1) / p.num_steps), p.schedule(place / p.num_steps)
        factor = 0.5 * p.num_steps * torch.expm1(gamma - below)
    level = gamma.reshape(*gamma.shape, *[1] * len(events))
    noise = torch.randn_like(data)
    z = signal(level) * data + noise_scale(level) * noise
    return ending + factor * (noise - p.denoiser(z, gamma)).square().sum(events)


def spread(like: Tensor) -> Tensor:
    """Times in [0, 1), each uniform, and together evenly spread: their sum scatters far less."""
    count = like.numel()
    even = torch.arange(count, dtype=like.dtype, device=like.device) / max(count, 1)
    return ((even + torch.rand((), dtype=like.dtype, device=like.device)) % 1.0).view(like.shape)
