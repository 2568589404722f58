"""Hamiltonian guides: a first answer, moved along the model's own density by leapfrog steps."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pyro
import pyro.distributions as dist
import torch
from torch import Tensor, nn

from ppl_vae.core.constraints import require_real
from ppl_vae.core.joint_density import log_joint
from ppl_vae.distributions.improper import PointMass
from ppl_vae.distributions.local import read_local
from ppl_vae.nets.contracts import known_latent_dim
from ppl_vae.nets.scale import inverse_positive_scale, positive_scale

_AUXILIARY = {"is_auxiliary": True}
TOO_MANY = 0.1  # of the draws, where a weight of zero is no accident of a large momentum


class Hamiltonian(nn.Module):
    r"""A posterior that starts at another guide's draw and follows Hamilton's equations: the HVAE.

    .. math:: z_0 \sim q_0(z \mid x), \quad r_0 = \gamma / \sqrt{\beta}, \quad \gamma \sim \mathcal{N}(0, I),
        \qquad (z_k, r_k) = \alpha_k \, \mathrm{leapfrog}_\epsilon(z_{k-1}, r_{k-1}), \qquad z = z_K

    .. math:: \log w = \log p(x, z_K) + \log \mathcal{N}(r_K; 0, I) - \log q_0(z_0)
        - \log \mathcal{N}(\gamma; 0, I)

    A leapfrog keeps the volume, and cooling the momentum by the factors alpha_k, from 1 / beta down to 1 with
    k^2, undoes what its start at 1 / beta took, so that no determinant is left. w is a weight over z and the
    momentum together; its mean is p(x), so every estimator that takes draws gives the bound it stands for,
    and the guide's start and the momentum are auxiliary sites, `z_start` and `z_momentum`. What needs q(z |
    x) alone, the density of a z from elsewhere, is refused. The steps' sizes, one a dimension, and beta are
    learned with the rest.

    The model is not a part of this guide: it counts, moves and is saved with its pair alone.

    Args:
        guide: any guide with one latent site that is normal, a flow of a normal or the like, over all of R^d.
        model: the pair's model; it has `latent_dim`, and draws that latent alone.
        num_steps: K.
        step_size: epsilon at the start, the same in all dimensions.
        temperature: beta at the start, at most 1, which is no tempering and stays.

    Raises:
        ValueError: for fewer steps than none, a step_size or temperature that cannot be, a model without
            `latent_dim`.
        PairError: from `forward`, for a guide or a model with several latent sites, names them; for a guide
            over less than all of R^d.

    Caterini, Doucet and Sejdinovic, Hamiltonian Variational Auto-Encoder, arXiv:1805.11328.

    >>> from ppl_vae import Pair, guides, models, nets
    >>> model = models.LinearGaussian(2, 5)
    >>> pair = Pair(model, Hamiltonian(guides.MeanField(nets.MLPEncoder((5,), 2)), model, num_steps=3))
    """

    def __init__(
        self,
        guide: nn.Module,
        model: nn.Module,
        num_steps: int = 3,
        step_size: float = 0.05,
        temperature: float = 0.5,
    ) -> None:
        super().__init__()
        latent_dim = known_latent_dim(model)
        if num_steps < 0 or not step_size > 0 or not 0 < temperature <= 1:
            raise ValueError(
                "num_steps must be 0 or more, step_size positive and temperature in (0, 1], got "
                f"{num_steps}, {step_size} and {temperature}"
            )
        self.guide = guide
        self._model = (model,)  # in a tuple, so that it is no submodule
        self.num_steps = num_steps
        self.step_size = step_size
        self.temperature = temperature
        step = inverse_positive_scale(torch.full((latent_dim,), float(step_size)))
        self.raw_step = nn.Parameter(step, requires_grad=num_steps > 0)
        if temperature < 1:
            self.raw_temperature = nn.Parameter(torch.tensor(float(temperature)).logit(), num_steps > 0)

    @property
    def model(self) -> nn.Module:
        """The pair's model, which is not a submodule."""
        return self._model[0]

    def forward(self, *batch: Any) -> Tensor:
        """Draw the latent of each datum, and on the way its start and a momentum."""
        local = read_local(self.guide, batch)
        first = local.rebuild([zeros.detach() for zeros in local.zeros()])
        require_real(local.site, first)
        noise = dist.Normal(torch.zeros_like(self.raw_step), 1.0).to_event(1)
        plate = local.plate()
        with plate:
            start = pyro.sample(f"{local.site}_start", first, infer=_AUXILIARY)
            momentum = pyro.sample(f"{local.site}_momentum", noise, infer=_AUXILIARY)
        # outside of the plate, since the model has one of the same name
        z, momentum, log_det = self.flow(local.site, start, momentum, batch)
        with plate:
            # as if drawn from a density: what the momentum's costs is taken off again
            return pyro.sample(local.site, PointMass(z, log_density=-noise.log_prob(momentum) - log_det))

    def flow(
        self, site: str, z: Tensor, momentum: Tensor, batch: Sequence[Any]
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Where the latent and the momentum, both (*batch, d) and the latter gamma at first, end.

        The momentum in units in which the model's is N(0, I); then the logarithm of the way's determinant.
        """
        step = positive_scale(self.raw_step)
        root = self.root_temperature()
        momentum = momentum / root
        force = self.force(site, z, batch)
        for number in range(1, self.num_steps + 1):
            momentum = momentum + step / 2 * force
            z = z + step * momentum
            force = self.force(site, z, batch)
            momentum = momentum + step / 2 * force
            momentum = momentum * (self.cooling(root, number - 1) / self.cooling(root, number))
        return z, momentum * root if self.num_steps == 0 else momentum, z.new_zeros(())

    def root_temperature(self) -> Tensor:
        """The root of beta."""
        return self.raw_temperature.sigmoid().sqrt() if self.temperature < 1 else self.raw_step.new_ones(())

    def cooling(self, root: Tensor, number: int) -> Tensor:
        """The root of beta after so many steps."""
        return 1 / ((1 - 1 / root) * (number / self.num_steps) ** 2 + 1 / root)

    def force(self, site: str, z: Tensor, batch: Sequence[Any]) -> Tensor:
        """The gradient of log p(x, z), of z's shape."""
        training = torch.is_grad_enabled()
        with torch.enable_grad():
            point = z if training and z.requires_grad else z.detach().requires_grad_()
            total = log_joint(self.model, site, point.reshape(-1, *z.shape[-2:]), batch).sum()
            (force,) = torch.autograd.grad(total, point, create_graph=training)
        return force if training else force.detach()
