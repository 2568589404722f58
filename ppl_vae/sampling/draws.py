"""Draws from every datum's posterior by one of the methods, as tensors with the numbers that judge them."""

from __future__ import annotations

import torch
from torch import Tensor

from ppl_vae.sampling.annealing import Annealing, gradient_runs
from ppl_vae.sampling.bases import base_of, moments
from ppl_vae.sampling.gradients import Gradients
from ppl_vae.sampling.hamiltonian import move, start
from ppl_vae.sampling.joint import Joint
from ppl_vae.sampling.question import Kept, PosteriorDraws, Question, gathered
from ppl_vae.sampling.settings import Settings
from ppl_vae.sampling.step_size import StepSize, first_step_size
from ppl_vae.sampling.weighted import effective_size, from_guide, require_weights, resampled


def posterior_draws(question: Question, settings: Settings) -> PosteriorDraws:
    """Draws of the latents given what is seen; run it within `isolation.questioning`.

    Raises:
        PairError: a pair that the method cannot take, naming the sites and the methods that can.
    """
    if settings.method == "hmc":
        return _hmc(question, settings)
    if settings.method == "anneal":
        return _annealed(question, settings)
    return from_guide(question, settings)


def _hmc(question: Question, settings: Settings) -> PosteriorDraws:
    joint = _joint(question)
    metric = moments(joint)[1]

    runs = (settings.warmup + settings.num_samples) * (settings.num_leapfrogs + 1) // 2
    joint_density = Gradients(joint.pair, settings.capture, runs).of(joint)
    one = torch.ones((), dtype=torch.float64)

    def density(points: Tensor) -> tuple[Tensor, Tensor]:
        return joint_density(points, one)[:2]

    state = start(density, joint.guide_draws(settings.num_chains))
    search = StepSize.begin(
        settings.target_acceptance, first_step_size(joint.size), state.points.shape[1], state.points
    )
    for _ in range(settings.warmup):
        moved = move(density, state, metric, search.current, settings.num_leapfrogs)
        state, search = moved.state, search.after(moved.acceptance)
        question.advance(1)
    step_size = search.result
    kept: dict[str | Kept, list[Tensor]] = {}
    judged: dict[str, list[Tensor]] = {"lp": [], "acceptance_rate": [], "diverging": []}
    for _ in range(settings.num_samples):
        moved = move(density, state, metric, step_size, settings.num_leapfrogs)
        state = moved.state
        for name, value in question.values(joint.trace(state.points), settings.num_chains).items():
            kept.setdefault(name, []).append(value)
        judged["lp"].append(state.log_density)
        judged["acceptance_rate"].append(moved.acceptance)
        judged["diverging"].append(moved.divergent)
        question.advance(1)
    return gathered(
        {name: torch.stack(each, 1) for name, each in kept.items()},
        frozenset(),
        {name: torch.stack(each, 1) for name, each in judged.items()},
        {"step_size": step_size},
    )


def _annealed(question: Question, settings: Settings) -> PosteriorDraws:
    joint = _joint(question)
    runs = gradient_runs(settings.num_temperatures, settings.num_leapfrogs)
    gradients = Gradients(joint.pair, settings.capture, runs)
    run = Annealing(
        joint, base_of(joint, settings.start), gradients, settings.num_temperatures, settings.num_samples,
        settings.num_leapfrogs, question.advance,
    )  # fmt: skip
    end = run.forward()
    require_weights(end.log_weight, question.what)
    normalised, k_hat = question.smooth(end.log_weight)
    chosen = resampled(normalised, settings.num_samples)
    points = torch.take_along_dim(end.points, chosen.unsqueeze(-1), 0)
    per_datum = {"k_hat": k_hat, "ess": effective_size(normalised), "acceptance_rate": end.acceptance}
    values = question.values(joint.trace(points), settings.num_samples)
    return gathered({name: value.unsqueeze(0) for name, value in values.items()}, per_datum=per_datum)


def _joint(question: Question) -> Joint:
    return Joint(question.hidden.pair, question.hidden.batch, question.what, question.hidden.model)
