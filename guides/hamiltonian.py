"""Hamiltonian guides: a first answer, moved along the model's own density by leapfrog steps."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pyro
import pyro.distributions as dist
import torch
from pyro.distributions import constraints, is_validation_enabled
from torch import Tensor, nn

from ppl_vae.core.constraints import in_words
from ppl_vae.core.joint_density import log_joint
from ppl_vae.core.sites import PairError
from ppl_vae.distributions.improper import PointMass
from ppl_vae.distributions.local import read_local
from ppl_vae.nets.contracts import known_latent_dim, require_latent_dim
from ppl_vae.nets.metric import RiemannianMetric
from ppl_vae.nets.scale import inverse_positive_scale, positive_scale
from ppl_vae.nets.shapes import positive_size
from ppl_vae.transforms.leapfrog import curved_leapfrog

_AUXILIARY = {"is_auxiliary": True}
_TOO_MANY = 0.1  # of the draws, where a weight of zero is no accident of a large momentum


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
        _require_real(local.site, first)
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
        root = self._root_temperature()
        momentum = momentum / root
        force = self._force(site, z, batch)
        for number in range(1, self.num_steps + 1):
            momentum = momentum + step / 2 * force
            z = z + step * momentum
            force = self._force(site, z, batch)
            momentum = momentum + step / 2 * force
            momentum = momentum * (self._cooling(root, number - 1) / self._cooling(root, number))
        return z, momentum * root if self.num_steps == 0 else momentum, z.new_zeros(())

    def _root_temperature(self) -> Tensor:
        """The root of beta."""
        return self.raw_temperature.sigmoid().sqrt() if self.temperature < 1 else self.raw_step.new_ones(())

    def _cooling(self, root: Tensor, number: int) -> Tensor:
        """The root of beta after so many steps."""
        return 1 / ((1 - 1 / root) * (number / self.num_steps) ** 2 + 1 / root)

    def _force(self, site: str, z: Tensor, batch: Sequence[Any]) -> Tensor:
        """The gradient of log p(x, z), of z's shape."""
        training = torch.is_grad_enabled()
        with torch.enable_grad():
            point = z if training and z.requires_grad else z.detach().requires_grad_()
            total = log_joint(self.model, site, point.reshape(-1, *z.shape[-2:]), batch).sum()
            (force,) = torch.autograd.grad(total, point, create_graph=training)
        return force if training else force.detach()


class RiemannianHamiltonian(Hamiltonian):
    r"""A posterior that follows Hamilton's equations in a curved space, whose metric is learned: the RHVAE.

    .. math:: z_0 \sim q_0(z \mid x), \quad r_0 = \frac{1}{\sqrt\beta} G(z_0)^{1/2} \gamma, \quad \gamma \sim
        \mathcal{N}(0, I), \qquad \log w = \log \frac{p(x, z_K) \, \mathcal{N}(r_K; 0, G(z_K))}
        {q_0(z_0) \, \mathcal{N}(\gamma; 0, I)} + \log \left|\det \frac{\partial (z_K, r_K)}
        {\partial (z_0, \gamma)}\right|

    As `Hamiltonian`, with the momentum's covariance that of the metric at each place, and the generalised
    leapfrog, whose equations are solved by fixed-point iterations. The determinant is that of the iterations
    which were done, and not that of a perfect solution, which keeps the volume: so w is exact with few
    of them, too. A momentum that is too large for the step has the weight 0, as if that place could not be
    reached, which keeps every bound below. So the steps are not learned here.

    Args:
        guide, model, num_steps, temperature: as of `Hamiltonian`.
        metric: a `nets.RiemannianMetric`, learned with the guide; start it at codes by its `initialise`.
        step_size: epsilon, the same in all dimensions; not learned.
        num_iterations: of each equation that is solved for.

    Raises:
        ValueError: as `Hamiltonian`; also for fewer iterations than one, or a metric of another latent_dim.
        PairError: as `Hamiltonian`; also, while distributions are validated, where many weights are 0.

    Chadebec, Mantoux and Allassonniere, Geometry-Aware Hamiltonian Variational Auto-Encoder,
    arXiv:2010.11518.

    >>> from ppl_vae import Pair, guides, models, nets
    >>> model, metric = models.LinearGaussian(2, 5), nets.RiemannianMetric(2, num_centres=5)
    >>> pair = Pair(model, RiemannianHamiltonian(guides.MeanField(nets.MLPEncoder((5,), 2)), model, metric))
    """

    def __init__(
        self,
        guide: nn.Module,
        model: nn.Module,
        metric: nn.Module,
        num_steps: int = 3,
        step_size: float = 0.02,
        temperature: float = 0.5,
        num_iterations: int = 4,
    ) -> None:
        super().__init__(guide, model, num_steps, step_size, temperature)
        self.metric: RiemannianMetric = metric  # type: ignore[assignment]
        self.num_iterations = positive_size("num_iterations", num_iterations)
        self.raw_step.requires_grad_(False)
        require_latent_dim("metric", metric, len(self.raw_step))

    def flow(
        self, site: str, z: Tensor, momentum: Tensor, batch: Sequence[Any]
    ) -> tuple[Tensor, Tensor, Tensor]:
        """As of `Hamiltonian`."""
        step, root = positive_scale(self.raw_step), self._root_temperature()
        triangle = self.metric.root(z)
        momentum = torch.linalg.solve_triangular(triangle.mT, momentum.unsqueeze(-1), upper=True).squeeze(-1)
        momentum, log_det = momentum / root, -_log_diagonal(triangle)
        force = self._force(site, z, batch)
        for number in range(1, self.num_steps + 1):
            z, momentum, own, force = curved_leapfrog(
                self.metric,
                z,
                momentum,
                force,
                lambda place: self._force(site, place, batch),
                step,
                self.num_iterations,
            )
            momentum = momentum * (self._cooling(root, number - 1) / self._cooling(root, number))
            log_det = log_det + own
        momentum = momentum * root if self.num_steps == 0 else momentum
        triangle = self.metric.root(z)
        log_det = log_det + _log_diagonal(triangle)
        if is_validation_enabled() and float(log_det.isinf().double().mean()) > _TOO_MANY:
            raise PairError(
                f"RiemannianHamiltonian: the leapfrogs of site {site!r} are too long for their metric, so "
                "that their equations have no single solution: take a smaller step_size, or a "
                "RiemannianMetric of a larger regularisation or temperature"
            )
        return z, (triangle.mT @ momentum.unsqueeze(-1)).squeeze(-1), log_det


def _require_real(site: str, fn: Any) -> None:
    support = fn.support
    while isinstance(support, constraints.independent):
        support = support.base_constraint
    if not isinstance(support, type(constraints.real)):
        raise PairError(
            f"site {site!r}: the guide that a Hamiltonian one starts from draws values that are "
            f"{in_words(support)}, and a step leads out of them: it takes a guide over all of R^d, such as "
            "guides.MeanField or a flow"
        )


def _log_diagonal(triangle: Tensor) -> Tensor:
    """(*batch,): the logarithm of the determinant of a triangle."""
    return triangle.diagonal(dim1=-2, dim2=-1).log().sum(-1)
