"""The deep Markov model: sequences whose steps hang together by a chain of latents."""

from __future__ import annotations

from typing import Any

import pyro
import torch
from torch import Tensor, nn

from ppl_vae.distributions.chain import NormalChain
from ppl_vae.distributions.padded import Padded, steps_there
from ppl_vae.likelihoods.contract import event_dim_of
from ppl_vae.nets.contracts import Decoder, LocScaleEncoder, require_latent_dim


class DeepMarkov(nn.Module):
    r"""A state-space model whose transitions and emissions are nets.

    .. math:: z_t \mid z_{t-1} \sim \mathcal{N}\bigl(\mathrm{transition}(z_{t-1})\bigr), \qquad
        x_t \mid z_t \sim \mathrm{likelihood}(\mathrm{decoder}(z_t)), \qquad t = 1, \dots, T_i

    x is (B, T, \*step), padded to the longest sequence, and `length`, (B,), says how many steps each has; no
    lengths stand for full ones. What comes after an end has no density, and is drawn as zeros. The chain of
    latents is one site `z`, of event shape (T, latent_dim). The guide is `guides.Smoothing`.

    Bounds are in nats a sequence; `evaluate.per_step(bounds, length)` has them in nats a step.

    Args:
        likelihood: a `likelihoods.Likelihood` of one step: `likelihoods.Bernoulli(event_dim=1)` for keys.
        decoder: a `nets.Decoder` of one step, from z_t, (\*batch, latent_dim), to the raw output.
        transition: from z_{t-1} to the location and the scale of z_t, such as `nets.GatedTransition`, for any
            leading dims.
        latent_dim: of z_t.

    Raises:
        ValueError: for parts of another latent_dim; in `forward` for data that are no sequences.

    Krishnan, Shalit and Sontag, Structured Inference Networks for Nonlinear State Space Models,
    arXiv:1609.09869.

    >>> from ppl_vae import Pair, guides, likelihoods, nets
    >>> decoder = nets.MLPDecoder(latent_dim=3, shape=(88,), hidden=(20,))
    >>> model = DeepMarkov(likelihoods.Bernoulli(event_dim=1), decoder, nets.GatedTransition(3, 20), 3)
    >>> guide = guides.Smoothing(nets.Recurrent(88, 20), nets.Combiner(3, 20, 20), latent_dim=3)
    >>> pair = Pair(model, guide, example=(torch.zeros(2, 10, 88), torch.tensor([10, 7])))
    """

    def __init__(
        self, likelihood: nn.Module, decoder: nn.Module, transition: nn.Module, latent_dim: int
    ) -> None:
        super().__init__()
        self.likelihood = likelihood
        self.decoder: Decoder = decoder
        self.transition: LocScaleEncoder = transition
        self.latent_dim = latent_dim
        self.start = nn.Parameter(torch.zeros(latent_dim))
        for name, part in (("decoder", decoder), ("transition", transition)):
            require_latent_dim(name, part, latent_dim)

    def forward(self, x: Tensor, length: Tensor | None = None) -> Any:
        """Draw z and x for each of the len(x) sequences."""
        there = steps_there(x, length)
        with pyro.plate("data", len(x), dim=-1):
            z = pyro.sample("z", NormalChain(self.transition, self.start, x.shape[1], there))
            steps = self.likelihood(self.decoder(z))
            if steps.event_dim != x.dim() - 2:
                name, built = type(self.likelihood).__name__, event_dim_of(self.likelihood)
                raise ValueError(
                    f"{name} has event_dim={built}, but x, {tuple(x.shape)}, is (B, T, *step) with "
                    f"{x.dim() - 2} dims in a step: write likelihoods.{name}(..., event_dim={x.dim() - 2})"
                )
            if there is not None:
                steps = Padded(steps, there)
            return pyro.sample("x", steps.to_event(1), obs=x)
