"""Diffusion models: noise that a denoiser takes away step by step, as a ladder of T layers or as one site."""

from __future__ import annotations

from typing import Any

import pyro
import pyro.distributions as dist
import torch
from torch import Tensor, nn

from ppl_vae.distributions.diffusion import Denoised
from ppl_vae.distributions.noise import step_back, without_noise
from ppl_vae.likelihoods.quantised_normal import QuantisedNormal
from ppl_vae.nets.denoisers import Denoiser
from ppl_vae.nets.noise_schedule import NoiseSchedule
from ppl_vae.nets.shapes import positive_size


class DiffusionLadder(nn.Module):
    r"""A diffusion model as a ladder of latents zT, ..., z0, each of the size of a datum.

    .. math:: z_T \sim \mathcal{N}(0, I), \qquad z_{t-1} \mid z_t \sim q\bigl(z_{t-1} \mid z_t, \hat x(z_t,
        \gamma_t)\bigr), \qquad p(x \mid z_0) \propto q(z_0 \mid x)

    with q the steps of `guides.NoisingLadder`, which has nothing to learn but perhaps the schedule, and
    :math:`\hat x = (z_t - \sigma_t \hat\epsilon) / \alpha_t` of the denoiser. It is a ladder like any other:
    every question and every estimator has its answer, and the closed form of each layer's KL term, which
    `estimators.MeanFieldELBO` takes, leaves the least noise.

    Args:
        denoiser: a `nets.Denoiser`.
        schedule: the noise, and the units of the data; the guide's too.
        num_steps: T.
        levels: of data that are grey values 0, 1 / (levels - 1), ..., 1; None for real numbers, whose bound
            is on a density.

    Raises:
        ValueError: for a T below 1, or levels below 2.

    Ho, Jain and Abbeel, arXiv:2006.11239; Kingma et al., Variational Diffusion Models, arXiv:2107.00630.

    >>> from ppl_vae import Pair, guides, nets
    >>> model = DiffusionLadder(nets.MLPDenoiser((2,)), nets.NoiseSchedule(), num_steps=20)
    >>> pair = Pair(model, guides.NoisingLadder(model.schedule, num_steps=20))
    """

    def __init__(
        self, denoiser: nn.Module, schedule: nn.Module, num_steps: int = 50, levels: int | None = None
    ) -> None:
        super().__init__()
        self.denoiser: Denoiser = denoiser
        self.schedule: NoiseSchedule = schedule  # type: ignore[assignment]
        self.num_steps = positive_size("num_steps", num_steps)
        self.levels = _checked(levels)

    def forward(self, x: Tensor) -> Any:
        """Draw zT, ..., z0 and x for each of the len(x) data."""
        shape = x.shape[1:]
        with pyro.plate("data", len(x), dim=-1):
            noise = dist.Normal(x.new_zeros(shape), 1.0).to_event(len(shape))
            z = pyro.sample(f"z{self.num_steps}", noise)
            gammas = self.schedule(torch.linspace(0, 1, self.num_steps + 1, dtype=z.dtype, device=z.device))
            for t in range(self.num_steps, 0, -1):
                guess = without_noise(z, self.denoiser(z, gammas[t]), gammas[t])
                loc, scale = step_back(z, guess, gammas[t], gammas[t - 1])
                z = pyro.sample(f"z{t - 1}", dist.Normal(loc, scale).to_event(len(shape)))
            return pyro.sample("x", read_off(z, self.schedule, self.levels, len(shape)), obs=x)


class Diffusion(nn.Module):
    r"""A diffusion model with the one site z, a datum in the noise of time 0: in continuous time, or T steps.

    .. math:: z \sim p(z_0) = \int p(z_1) \, p(\text{way from } z_1 \text{ to } z_0), \qquad
        p(x \mid z) \propto q(z \mid x)

    The bound is that of `DiffusionLadder` with T steps, or with infinitely many, at the cost of one
    evaluation of the denoiser: the divergence of the two ways is taken at a random time, see
    `distributions.diffusion.Denoised`. z has no density that can be computed, so it is for
    `estimators.MeanFieldELBO` and `evaluate.bounds`; what needs a density refuses. The guide is
    `guides.Noising`.

    Args:
        denoiser, schedule, levels: as of `DiffusionLadder`.
        num_steps: T; None for continuous time.
        sampling_steps: of a draw in continuous time. Draws are then those of the model with as many steps,
            whose bound is what `num_steps=sampling_steps` gives.

    Raises:
        ValueError: for steps below 1, or levels below 2.

    Kingma, Salimans, Poole and Ho, Variational Diffusion Models, arXiv:2107.00630.

    >>> from ppl_vae import Pair, guides, nets
    >>> model = Diffusion(nets.MLPDenoiser((2,)), nets.NoiseSchedule())
    >>> pair = Pair(model, guides.Noising(model.schedule))
    """

    def __init__(
        self,
        denoiser: nn.Module,
        schedule: nn.Module,
        num_steps: int | None = None,
        sampling_steps: int = 100,
        levels: int | None = None,
    ) -> None:
        super().__init__()
        self.denoiser: Denoiser = denoiser
        self.schedule: NoiseSchedule = schedule  # type: ignore[assignment]
        self.num_steps = None if num_steps is None else positive_size("num_steps", num_steps)
        self.sampling_steps = positive_size("sampling_steps", sampling_steps)
        self.levels = _checked(levels)

    def forward(self, x: Tensor) -> Any:
        """Draw z and x for each of the len(x) data."""
        like, steps = x.new_zeros(x.shape[1:]), (self.num_steps, self.sampling_steps)
        with pyro.plate("data", len(x), dim=-1):
            z = pyro.sample("z", Denoised(self.denoiser, self.schedule, like, *steps))
            return pyro.sample("x", read_off(z, self.schedule, self.levels, like.dim()), obs=x)


def read_off(z: Tensor, schedule: NoiseSchedule, levels: int | None, event_dim: int) -> dist.Distribution:
    """p(x | z_0), as likely as z_0 is given x: normal with the noise of time 0, in the units of the data."""
    gamma = schedule(z.new_zeros(()))
    ratio = (0.5 * gamma).exp()  # of noise to signal
    loc = z * (1 + ratio.square()).sqrt() / schedule.factor + schedule.shift
    scale = (ratio / schedule.factor).expand_as(loc)
    if levels is None:
        return dist.Normal(loc, scale).to_event(event_dim)
    return QuantisedNormal(loc, scale, levels).to_event(event_dim)


def _checked(levels: int | None) -> int | None:
    if levels is not None and (isinstance(levels, bool) or not isinstance(levels, int) or levels < 2):
        raise ValueError(f"levels must be 2 or more, or None for real numbers, got {levels!r}")
    return levels
