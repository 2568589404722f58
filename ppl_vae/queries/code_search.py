"""Bayesian optimisation of codes, for scores that are costly or have no gradient: a surrogate by botorch."""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable
from typing import Any, NamedTuple

import torch
from torch import Tensor

from ppl_vae.queries.shell import Codes, Shell

Scored = Callable[[Codes], tuple[Tensor, Tensor]]
"""From unconstrained codes to (n,) scores and (n,) log-priors."""

_MOST_SCORED = 1000  # codes that the surrogate is given, the best ones: its time goes with their cube
_CANDIDATES = 2000
_NEAREST, _FARTHEST = 0.03, 1.0  # of a candidate from the code that it is near, in standard deviations
_MOVED = 20  # coordinates of such a candidate that differ, about
_SIDE = 4.0  # of half the cube that the codes lie in, in standard deviations


class Path(NamedTuple):
    """Where codes came to.

    Attributes:
        codes: at the end, unconstrained.
        score, score_at_start, log_prior: (n,); the last of the end.
        objective: (steps + 1, n).
    """

    codes: Codes
    score: Tensor
    score_at_start: Tensor
    log_prior: Tensor
    objective: Tensor


def searched(at: Scored, start: Codes, around: Shell, steps: int, prior_weight: float, shell: bool) -> Path:
    """The best code that each datum was given in some rounds of n, itself to begin with.

    Raises:
        ImportError: without botorch.
        ValueError: where no score is a finite number.
    """
    thompson = _thompson_sampling()
    layout = _Layout(start, around)
    score, log_prior = at(start)
    first, best, objective = score, layout.flat(start), score + prior_weight * log_prior
    known, values = [best], [objective]
    course = [objective]
    for _ in range(steps):
        every = torch.cat(values)
        found = every.isfinite()
        if not bool(found.any()):
            raise ValueError("no score is a finite number, so there is nothing to learn from")
        every = every.where(found, every[found].min())  # what has no score is not to be looked for again
        top = every.argsort(descending=True)[:_MOST_SCORED]
        codes = torch.cat(known)[top]
        candidates = layout.flat(layout.codes(_near_and_fresh(codes[: len(first)]), shell))
        chosen = thompson(codes, every[top], candidates, len(first))
        new_score, new_prior = at(layout.codes(chosen))
        new = new_score + prior_weight * new_prior
        known.append(chosen)
        values.append(new)
        better = (new > objective) | objective.isnan()
        best = torch.where(better.unsqueeze(-1), chosen, best)
        score, log_prior = torch.where(better, new_score, score), torch.where(better, new_prior, log_prior)
        objective = torch.where(better, new, objective)
        course.append(objective)
    return Path(layout.codes(best), score, first, log_prior, torch.stack(course))


class _Layout:
    """Codes of sites as vectors, in standard deviations of the data's codes."""

    def __init__(self, like: Codes, around: Shell) -> None:
        self.like, self.around = like, around

    def flat(self, codes: Codes) -> Tensor:
        """(n, D)."""
        parts = []
        for name, each in codes.items():
            standard = (each - self.around.mean[name]) / self.around.deviation[name]
            parts.append(standard.movedim(self.around.rows[name], 0).flatten(1))
        return torch.cat(parts, 1)

    def codes(self, flat: Tensor, shell: bool = False) -> Codes:
        """By site; brought to the shell."""
        rows = {name: each.movedim(self.around.rows[name], 0) for name, each in self.like.items()}
        parts = flat.split([each[0].numel() for each in rows.values()], 1)
        found = {}
        for (name, row), part in zip(rows.items(), parts):
            standard = part.reshape(-1, *row.shape[1:]).movedim(0, self.around.rows[name]).to(row)
            found[name] = self.around.mean[name] + self.around.deviation[name] * standard
        if shell:
            self.around.keep(found)
        return found


def _near_and_fresh(best: Tensor) -> Tensor:
    """Candidates: some near the best codes, in some of their coordinates, and as many from anywhere."""
    half, size = _CANDIDATES // 2, best.shape[1]
    near = best[torch.randint(len(best), (half,))]
    width = torch.empty(half, 1).uniform_(math.log(_NEAREST), math.log(_FARTHEST)).exp().to(best)
    moved = (torch.rand(half, size) < _MOVED / size).to(best)
    return torch.cat(
        [near + moved * width * torch.randn(half, size).to(best), torch.randn(half, size).to(best)]
    )


def _thompson_sampling() -> Callable[[Tensor, Tensor, Tensor, int], Tensor]:
    """From codes (m, D), values and candidates, to those of these where draws of a surrogate are largest.

    Raises:
        ImportError: without botorch.
    """
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # it calls what torch calls deprecated
            from botorch.fit import fit_gpytorch_mll
            from botorch.generation import MaxPosteriorSampling
            from botorch.models import SingleTaskGP
            from gpytorch.mlls import ExactMarginalLogLikelihood
    except ImportError as error:
        raise ImportError(
            "method='bayesian' needs the package botorch: pip install 'ppl_vae[bayesian]'"
        ) from error

    def chosen(codes: Tensor, values: Tensor, candidates: Tensor, count: int) -> Tensor:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # values that are all alike, matrices next to singular
            with torch.enable_grad():
                surrogate: Any = SingleTaskGP(_in_cube(codes), values.double().unsqueeze(-1))
                fit_gpytorch_mll(ExactMarginalLogLikelihood(surrogate.likelihood, surrogate))
            draw = MaxPosteriorSampling(surrogate, replacement=False)
            found: Tensor = draw(_in_cube(candidates), num_samples=count)
        return (found * 2 * _SIDE - _SIDE).to(candidates)

    return chosen


def _in_cube(codes: Tensor) -> Tensor:
    """Of side one, for which the prior of the surrogate's lengths is made."""
    return (codes.double() + _SIDE) / (2 * _SIDE)
