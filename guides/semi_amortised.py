"""The semi-amortised guide: an amortised guide's answer, improved for each datum by a few gradient steps."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pyro
import torch
from torch import Tensor, nn

from ppl_vae.core.joint_density import log_joint
from ppl_vae.distributions.local import Local, push, read_local
from ppl_vae.nets.contracts import known_latent_dim


class SemiAmortised(nn.Module):
    r"""A posterior that starts at another guide's answer and climbs the ELBO, datum by datum.

    .. math:: \lambda_0 = \mathrm{guide}(x), \qquad
        \lambda_{t+1} = \lambda_t + \eta \, \mathrm{clip}\, \nabla_\lambda \frac{1}{S} \sum_s
        \log \frac{p(x, z_s)}{q(z_s; \lambda_t)}, \qquad z \sim q(z; \lambda_T)

    The steps are taken in units of the answer's own scale (see `ppl_vae.distributions.local`) and no longer
    than eta times the root of latent_dim. The S draws come from noise that is fixed and the same for all
    data, so that the posterior is a function of x, and its density is that of any other guide. Gradients of
    the bound go through the steps, to the guide and to the model.

    The model is not a part of this guide: it counts, moves and is saved with its pair alone.

    Args:
        guide: any guide with one latent site that is normal, a flow of a normal, Laplace, Gumbel,
            exponential or log-normal.
        model: the pair's model; it has `latent_dim`.
        num_steps: T.
        step_size: eta.
        num_samples: S, even: the noise comes in opposite pairs.
        second_order: send gradients through the steps' own gradients too; without, training is
            cheaper and treats the steps as constant moves.

    Raises:
        ValueError: for negative steps, an odd number of samples, a model without `latent_dim`.
        PairError: from `forward`, for a guide whose local parameters cannot be moved; names the site.

    Kim, Wiseman, Miller, Sontag and Rush, Semi-Amortized Variational Autoencoders, arXiv:1802.02550.
    """

    noise: Tensor

    def __init__(
        self,
        guide: nn.Module,
        model: nn.Module,
        num_steps: int = 4,
        step_size: float = 0.1,
        num_samples: int = 2,
        second_order: bool = True,
    ) -> None:
        super().__init__()
        latent_dim = known_latent_dim(model)
        if num_steps < 0 or num_samples < 2 or num_samples % 2:
            raise ValueError(
                f"num_steps must be 0 or more and num_samples even, got {num_steps} and {num_samples}"
            )
        self.guide = guide
        self._model = (model,)  # in a tuple, so that it is no submodule
        self.num_steps = num_steps
        self.step_size = step_size
        self.num_samples = num_samples
        self.second_order = second_order
        self.register_buffer("noise", _noise(num_samples, latent_dim))

    @property
    def model(self) -> nn.Module:
        """The pair's model, which is not a submodule."""
        return self._model[0]

    def forward(self, *batch: Any) -> Tensor:
        """Draw the latent of each datum."""
        local, posterior = self.refine(*batch)
        with local.plate():
            return pyro.sample(local.site, posterior)

    def refine(self, *batch: Any) -> tuple[Local, Any]:
        """The guide's answer to a batch, and the posterior after the steps, batch shape (B,)."""
        training = torch.is_grad_enabled()
        local = read_local(self.guide, batch)
        with torch.enable_grad():
            moves = local.zeros()
            for _ in range(self.num_steps):
                gradients = torch.autograd.grad(
                    self._bound(local, moves, batch), moves, create_graph=training and self.second_order
                )
                step = self.step_size * _clip(gradients, self.noise.shape[-1])
                moves = tuple(
                    move + step.view(-1, *[1] * (move.dim() - 1)) * gradient
                    for move, gradient in zip(moves, gradients)
                )
                if not training:
                    moves = tuple(move.detach().requires_grad_() for move in moves)
            if not training:
                moves = tuple(move.detach() for move in moves)
        return local, local.rebuild(moves)

    def _bound(self, local: Local, moves: Sequence[Tensor], batch: Sequence[Any]) -> Tensor:
        posterior = local.rebuild(moves)
        z = push(posterior, self.noise.unsqueeze(1).expand(-1, len(batch[0]), -1))
        return (log_joint(self.model, local.site, z, batch) - posterior.log_prob(z)).mean(0).sum()


def _clip(gradients: Sequence[Tensor], latent_dim: int) -> Tensor:
    """(B,): what to multiply each datum's gradients with so that they are no longer than root latent_dim."""
    square = sum(
        (gradient.flatten(1).square().sum(1) for gradient in gradients), torch.zeros(()).to(gradients[0])
    )
    return (latent_dim / square.clamp_min(latent_dim)).sqrt()


def _noise(num_samples: int, latent_dim: int) -> Tensor:
    """(S, latent_dim): opposite pairs whose second moments are exactly one."""
    generator = torch.Generator().manual_seed(0)
    half = torch.randn(num_samples // 2, latent_dim, generator=generator)
    half = half / half.square().mean(0).sqrt()
    return torch.cat([half, -half])
