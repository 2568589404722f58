"""Hamiltonian Monte Carlo on many data and chains at once, each with an accept step of its own."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from ppl_vae.sampling.metric import Metric

Density = Callable[[Tensor], tuple[Tensor, Tensor]]
"""From (K, B, D) to the log-density (K, B) and its gradient (K, B, D)."""

DIVERGENT = 1000.0
"""A change of energy, in nats, from which on a trajectory counts as divergent."""

_JITTER = 0.2


@dataclass(frozen=True)
class State:
    """Where the chains are.

    Attributes:
        points: (K, B, D).
        log_density: (K, B).
        gradient: (K, B, D), of `log_density`.
    """

    points: Tensor
    log_density: Tensor
    gradient: Tensor


@dataclass(frozen=True)
class Move:
    """One step of all chains.

    Attributes:
        state: afterwards.
        acceptance: (K, B), the probability with which each of them was to move.
        divergent: (K, B), whether the energy changed by more than `DIVERGENT`.
    """

    state: State
    acceptance: Tensor
    divergent: Tensor


def start(density: Density, points: Tensor) -> State:
    """The state of chains at these points."""
    return State(points, *density(points))


def move(density: Density, state: State, metric: Metric, step_size: Tensor, num_leapfrogs: int) -> Move:
    r"""One Hamiltonian trajectory for each chain and datum, accepted or not by itself.

    In the coordinates v of the metric, with momenta r of unit variance and the energy
    :math:`-\log \pi(v) + r^\top r / 2`.

    Args:
        density: its target.
        state: before.
        metric: of each datum.
        step_size: (B,), in units of the metric; each trajectory takes it times a factor of 1 +- 0.2 of
            its own.
        num_leapfrogs: the most steps of a trajectory. Their number is drawn, from 1 to that, for all chains
            alike: trajectories of one length may come back to where they began.

    Neal, MCMC using Hamiltonian dynamics, arXiv:1206.1901.
    """
    chains, data = state.log_density.shape
    jitter = 1 + _JITTER * (2 * torch.rand(chains, data, 1).to(state.points) - 1)
    epsilon = step_size.to(state.points).reshape(1, data, 1) * jitter
    momentum = torch.randn_like(state.points)
    energy = state.log_density - momentum.square().sum(-1) / 2
    points, gradient = state.points, state.gradient
    log_density = state.log_density
    momentum = momentum + epsilon / 2 * metric.gradient(gradient)
    length = int(torch.randint(1, num_leapfrogs + 1, ()))
    for number in range(length):
        points = points + metric.from_white(epsilon * momentum)
        log_density, gradient = density(points)
        last = number == length - 1
        momentum = momentum + (epsilon / 2 if last else epsilon) * metric.gradient(gradient)
    change = (log_density - momentum.square().sum(-1) / 2) - energy
    change = change.masked_fill(change.isnan(), -math.inf)  # from where the density is 0 all leads upwards
    acceptance = change.clamp_max(0.0).exp()
    accepted = torch.rand(chains, data).to(acceptance) < acceptance
    wide = accepted.unsqueeze(-1)
    after = State(
        torch.where(wide, points, state.points),
        torch.where(accepted, log_density, state.log_density),
        torch.where(wide, gradient, state.gradient),
    )
    return Move(after, acceptance, change < -DIVERGENT)
