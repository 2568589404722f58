"""Annealed importance sampling of every datum's latents at once, forwards and, from an exact draw,
backwards.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from ppl_vae.sampling.bases import Base, moments
from ppl_vae.sampling.gradients import Gradients
from ppl_vae.sampling.hamiltonian import Move, State, move
from ppl_vae.sampling.joint import Joint
from ppl_vae.sampling.metric import Metric
from ppl_vae.sampling.step_size import first_step_size

Counted = Callable[[int], None]
"""Told how many temperatures have been passed."""

TARGET_ACCEPTANCE = 0.65
_PILOT_MOVES = 3
_PILOT_SHARE, _LEAST_PILOT, _MOST_PILOT = 10, 10, 50


@dataclass(frozen=True)
class Annealed:
    """The end of a run.

    Attributes:
        log_weight: (K, B) nats, float64; forwards the mean of exp is p(x), backwards that of exp(-) is 1
            / p(x).
        points: (K, B, D), where the chains are.
        acceptance: (B,), the mean over temperatures and chains.
    """

    log_weight: Tensor
    points: Tensor
    acceptance: Tensor


def temperatures(count: int) -> Tensor:
    """(count + 1,) inverse temperatures from 0 to 1, closest at both ends: a logistic curve's.

    Wu, Burda, Salakhutdinov and Grosse, On the Quantitative Analysis of Decoder-Based Generative Models,
    arXiv:1611.04273.
    """
    line = torch.sigmoid(torch.linspace(-4.0, 4.0, count + 1, dtype=torch.float64))
    return (line - line[0]) / (line[-1] - line[0])


class Annealing:
    r"""Chains through the densities from a base to the joint density of a datum's latents.

    .. math:: \pi_\beta(u) \propto q(u)^{1 - \beta} \, p(x, u)^\beta, \qquad
        \log w = \sum_{t=1}^T (\beta_t - \beta_{t-1}) \log \frac{p(x, u_{t-1})}{q(u_{t-1})}

    A pilot run finds the step size of each datum at each temperature; they stay as they are in the runs that
    count, since a kernel that follows its own chain leaves no density invariant.

    Neal, Annealed Importance Sampling, arXiv:physics/9803008.

    Args:
        joint: the end.
        base: the beginning.
        gradients: of the densities between.
        num_temperatures: T.
        num_chains: K, of the pilot run too.
        num_leapfrogs: of each trajectory.
        counted: is told of each temperature passed, `runs` times T + `pilot_steps` in all.
    """

    def __init__(
        self,
        joint: Joint,
        base: Base,
        gradients: Gradients,
        num_temperatures: int,
        num_chains: int,
        num_leapfrogs: int,
        counted: Counted = lambda _: None,
    ) -> None:
        self.joint, self.base, self.num_chains, self.num_leapfrogs = joint, base, num_chains, num_leapfrogs
        self._density = gradients.of(joint, base)
        self.betas = temperatures(num_temperatures)
        self.metric: Metric = moments(joint)[1]
        self.counted = counted
        self.log_step = self._pilot(pilot_steps(num_temperatures))

    def forward(self) -> Annealed:
        """From the base to the joint density."""
        points = self.base.draw(self.num_chains)
        return self._run(points, backwards=False)

    def backward(self, points: Tensor) -> Annealed:
        """From exact draws of the posterior, (1, B, D) or (K, B, D), to the base."""
        return self._run(points.expand(self.num_chains, -1, -1), backwards=True)

    def _run(self, points: Tensor, backwards: bool) -> Annealed:
        log_weight = torch.zeros(points.shape[:2], dtype=torch.float64, device=points.device)
        acceptance = torch.zeros(points.shape[1], dtype=torch.float64, device=points.device)
        steps = list(range(1, len(self.betas)))
        for step in reversed(steps) if backwards else steps:
            beta, width = self.betas[step], self.betas[step] - self.betas[step - 1]
            state, ratio = self._state(points, beta)
            if not backwards:
                log_weight += width * ratio.double()
            moved = self._move(state, beta, self.log_step[step].exp())
            points = moved.state.points
            acceptance += moved.acceptance.double().mean(0) / len(steps)
            if backwards:
                log_weight += width * self._state(points, beta)[1].double()
            self.counted(1)
        return Annealed(log_weight, points, acceptance)

    def _state(self, points: Tensor, beta: Tensor) -> tuple[State, Tensor]:
        """The chains' state at a temperature, and the log-ratio of the joint density to the base."""
        log_density, gradient, ratio = self._density(points, beta)
        return State(points, log_density, gradient), ratio

    def _move(self, state: State, beta: Tensor, step_size: Tensor) -> Move:
        def density(points: Tensor) -> tuple[Tensor, Tensor]:
            return self._density(points, beta)[:2]

        return move(density, state, self.metric, step_size, self.num_leapfrogs)

    def _pilot(self, count: int) -> Tensor:
        """(T + 1, B) logarithms of step sizes."""
        points = self.base.draw(self.num_chains)
        first = torch.tensor(first_step_size(self.joint.size), dtype=torch.float64).log()
        log_step = first.expand(points.shape[1]).to(points.device)
        found = []
        betas = temperatures(count)
        for beta in betas:
            for number in range(_PILOT_MOVES):
                moved = self._move(self._state(points, beta)[0], beta, log_step.exp())
                points = moved.state.points
                error = moved.acceptance.double().mean(0) - TARGET_ACCEPTANCE
                log_step = log_step + error / (1 + number / 2)
            found.append(log_step)
            self.counted(1)
        return interpolated(torch.stack(found), betas, self.betas)


def pilot_steps(num_temperatures: int) -> int:
    """The temperatures of the pilot run, without the last."""
    return min(max(num_temperatures // _PILOT_SHARE, _LEAST_PILOT), _MOST_PILOT)


def gradient_runs(num_temperatures: int, num_leapfrogs: int) -> int:
    """About how many gradients a run and its pilot ask for: those of a move, whose mean length is half."""
    of_a_move = 1 + (num_leapfrogs + 1) // 2
    return (num_temperatures + _PILOT_MOVES * (pilot_steps(num_temperatures) + 1)) * of_a_move


def interpolated(values: Tensor, known: Tensor, wanted: Tensor) -> Tensor:
    """(T, B) values at `wanted` places of those (P, B) at `known` ones, linearly."""
    right = torch.searchsorted(known, wanted).clamp(1, len(known) - 1)
    left = right - 1
    share = ((wanted - known[left]) / (known[right] - known[left])).unsqueeze(-1).to(values)
    return (1 - share) * values[left] + share * values[right]
