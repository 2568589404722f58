"""The guide of the geometry-aware VAE: Hamilton's equations in a space whose metric is learned."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from pyro.distributions import is_validation_enabled
from torch import Tensor, nn

from ppl_vae.core.sites import PairError
from ppl_vae.guides.hamiltonian import TOO_MANY, Hamiltonian
from ppl_vae.nets.contracts import require_latent_dim
from ppl_vae.nets.metric import RiemannianMetric
from ppl_vae.nets.scale import positive_scale
from ppl_vae.nets.shapes import positive_size
from ppl_vae.transforms.leapfrog import curved_leapfrog


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
        step, root = positive_scale(self.raw_step), self.root_temperature()
        triangle = self.metric.root(z)
        momentum = torch.linalg.solve_triangular(triangle.mT, momentum.unsqueeze(-1), upper=True).squeeze(-1)
        momentum, log_det = momentum / root, -_log_diagonal(triangle)
        force = self.force(site, z, batch)
        for number in range(1, self.num_steps + 1):
            z, momentum, own, force = curved_leapfrog(
                self.metric,
                z,
                momentum,
                force,
                lambda place: self.force(site, place, batch),
                step,
                self.num_iterations,
            )
            momentum = momentum * (self.cooling(root, number - 1) / self.cooling(root, number))
            log_det = log_det + own
        momentum = momentum * root if self.num_steps == 0 else momentum
        triangle = self.metric.root(z)
        log_det = log_det + _log_diagonal(triangle)
        if is_validation_enabled() and float(log_det.isinf().double().mean()) > TOO_MANY:
            raise PairError(
                f"RiemannianHamiltonian: the leapfrogs of site {site!r} are too long for their metric, so "
                "that their equations have no single solution: take a smaller step_size, or a "
                "RiemannianMetric of a larger regularisation or temperature"
            )
        return z, (triangle.mT @ momentum.unsqueeze(-1)).squeeze(-1), log_det


def _log_diagonal(triangle: Tensor) -> Tensor:
    """(*batch,): the logarithm of the determinant of a triangle."""
    return triangle.diagonal(dim1=-2, dim2=-1).log().sum(-1)
