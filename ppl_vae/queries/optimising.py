"""Data with more of something: codes that ascend a score of what they decode to, where data have theirs."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, get_args

import torch
from pyro import poutine
from torch import Tensor
from torch.distributions import biject_to

from ppl_vae.core.checks import check_choice, check_real, checked
from ppl_vae.core.constraints import in_words, innermost_name
from ppl_vae.core.density import require_density
from ppl_vae.core.isolation import one_thread, questioning
from ppl_vae.core.pair import Pair, require_pair
from ppl_vae.core.sites import Site, data_frame
from ppl_vae.queries.arguments import Batch, as_tensors, check_site, tensor_of
from ppl_vae.queries.code_search import Path, Scored, searched
from ppl_vae.queries.draws import Draws
from ppl_vae.queries.handlers import centre, is_discrete, latent_sites, mean_of, run, sample_sites
from ppl_vae.queries.inputs import Inputs, held, put
from ppl_vae.queries.questions import decode
from ppl_vae.queries.shell import Codes, Shell
from ppl_vae.queries.site_tensors import laid_out

Score = Callable[[Any], Tensor]
Method = Literal["ascent", "bayesian"]

_CODES = 1000  # that the shell is read off, at least


@dataclass(frozen=True, eq=False)
class Optimised:
    """Codes after an ascent or a search, and what they decode to.

    Attributes:
        draws: the codes and the data decoded from them, as of `decode`.
        score: (n,) of the data's means at the end.
        score_at_start: (n,).
        log_prior: (n,) of the codes that moved, in nats.
        objective: (steps + 1, n), score plus the weighted log-prior; of a search the best so far.
        length: (n,) of the codes that moved, in standard deviations of the data's codes from their mean.
        shell: the lengths between which 98 % of the data's codes lie.
    """

    draws: Draws
    score: Tensor
    score_at_start: Tensor
    log_prior: Tensor = field(repr=False)
    objective: Tensor = field(repr=False)
    length: Tensor
    shell: tuple[float, float]

    @property
    def left(self) -> Tensor:
        """(n,), True where a code is outside of the shell, where the decoder has seen next to nothing."""
        low, high = self.shell
        return (self.length < low * (1 - 1e-4)) | (self.length > high * (1 + 1e-4))

    def __str__(self) -> str:
        first, last = float(self.score_at_start.mean()), float(self.score.mean())
        return (
            f"score {first:.4g} to {last:.4g}, mean of {len(self.score):,}; {int(self.left.sum())} of the "
            f"codes left the data's shell, {self.shell[0]:.2f} to {self.shell[1]:.2f} deviations long"
        )


@one_thread
@checked()
def optimise(
    pair: Pair,
    score: Score,
    start: Batch,
    *,
    like: Batch | None = None,
    site: str | None = None,
    method: Method = "ascent",
    steps: int = 200,
    learning_rate: float = 0.05,
    prior_weight: float = 1.0,
    shell: bool = True,
    inputs: Inputs | None = None,
    given: Sequence[str] = (),
    seed: int | None = 0,
) -> Optimised:
    r"""Move the codes of data up a score of what they decode to, and up the prior.

    .. math:: \max_z \; \mathrm{score}\bigl(\mathrm{E}[x \mid z]\bigr) + \beta \log p(z)

    By Adam on the unconstrained codes, whose rate falls to zero along a cosine. A score alone leads out to
    codes of which the decoder knows nothing, and the prior alone to its mode, which is no code of data either
    where there are many dimensions: so the codes stay on the shell of the data's own, their length in
    standard deviations within that of 98 % of the codes of `like`. Whether they stand in a hole of the
    aggregate posterior there, `evaluate.holes(pair, data).in_hole_at(result.draws.latents[site])` says.

    Bayesian optimisation, `method="bayesian"`, is for a score that is costly or has no gradient: a Gaussian
    process of all codes scored so far says which are next, one for each datum a step, by Thompson sampling
    among codes near the best and fresh ones. Each datum ends with the best code of its own.

    Args:
        pair: the pair.
        score: from the mean of the observed data, (n, \*event), or a dictionary of them by site where there
            are several, to (n,) numbers; a differentiable tensor, or for "bayesian" any numbers.
        start: a batch of n data, whose codes it begins at.
        like: data whose codes say where the shell is; `start` by default.
        site: the latent site that moves; all continuous ones by default. The others stay.
        method: "ascent", or "bayesian", which needs the extra of that name (`botorch`).
        steps: of Adam, or rounds of n scores.
        learning_rate: of Adam, at first.
        prior_weight: beta.
        shell: whether the codes are kept on the shell; `left` says where they are not.
        inputs: the model's arguments by name, as in `sample`; those of start by default.
        given: observed sites to hold at start's data, which the score does not see.
        seed: of the codes that say where the shell is, and of the data drawn in the end.

    Raises:
        ImportError: for "bayesian" without botorch.
        ValueError: for a score that is not (n,) or does not depend on the codes, and where no site can move.

    Gomez-Bombarelli et al., Automatic Chemical Design Using a Data-Driven Continuous Representation of
    Molecules, arXiv:1610.02415; Eriksson et al., Scalable Global Optimization via Local Bayesian
    Optimization, arXiv:1910.01739.

    >>> from ppl_vae import guides, models, nets
    >>> pair = Pair(models.LinearGaussian(2, 3), guides.MeanField(nets.MLPEncoder((3,), 2)))
    >>> bright = optimise(pair, lambda x: x.sum(-1), torch.randn(4, 3), steps=20)
    >>> bright.draws.mean.shape, bool((bright.score > bright.score_at_start).all())
    (torch.Size([4, 3]), True)
    """
    require_pair(pair)
    check_choice("method", method, get_args(Method))
    check_real("learning_rate", learning_rate, above=True)
    check_real("prior_weight", prior_weight)
    with questioning(pair, seed, pair.device):
        tensors = as_tensors(pair, start)
        ascent = _Ascent(pair, score, tensors, site, inputs, given, slopes=method == "ascent")
        around = ascent.shell(tensors if like is None else as_tensors(pair, like))
        free = {name: ascent.unconstrained(name, each) for name, each in ascent.codes.items()}
        if method == "bayesian":
            path = searched(ascent.at, free, around, steps, prior_weight, shell)
        else:
            path = _climbed(ascent.at, free, around, steps, prior_weight, shell, learning_rate)
        latents = {**ascent.held, **ascent.constrained(path.codes)}
        draws = decode(pair, latents, inputs=inputs, like=tensors, given=given)
        length = around.length(path.codes)
    return Optimised(
        draws, path.score, path.score_at_start, path.log_prior, path.objective, length, around.ends
    )


def _climbed(
    at: Scored, free: Codes, around: Shell, steps: int, prior_weight: float, shell: bool, rate: float
) -> Path:
    """The codes, moved in place."""
    optimizer = torch.optim.Adam([each.requires_grad_() for each in free.values()])
    objectives, scores = [], []
    for step in range(steps + 1):
        with torch.enable_grad():
            value, log_prior = at(free)
            objective = value + prior_weight * log_prior
            gradients = torch.autograd.grad(objective.sum(), list(free.values()))
        _require_numbers(objective, gradients, step)
        objectives.append(objective.detach())
        scores.append(value.detach())
        if step == steps:
            break
        uphill = dict(zip(free, gradients, strict=True))
        for name, gradient in (around.along(free, uphill) if shell else uphill).items():
            free[name].grad = -gradient
        optimizer.param_groups[0]["lr"] = rate * 0.5 * (1 + math.cos(math.pi * step / steps))
        optimizer.step()
        if shell:
            around.keep(free)
    codes = {name: each.detach() for name, each in free.items()}
    return Path(codes, scores[-1], scores[0], log_prior.detach(), torch.stack(objectives))


def _require_numbers(objective: Tensor, gradients: Sequence[Tensor], step: int) -> None:
    """Refuse a score without a value or a slope, before a step goes to where it points."""
    lost = ~objective.isfinite()
    if bool(lost.any()):
        number = int(lost.nonzero()[0])
        raise ValueError(
            f"score, or the prior's log-density, is {float(objective[number].detach())} for datum {number} "
            f"at step {step}, and an ascent needs finite numbers: clamp what the score takes a logarithm or "
            "a quotient of"
        )
    if not all(bool(each.isfinite().all()) for each in gradients):
        raise ValueError(
            f"the gradient of score is no finite number at step {step}, though its value is one, as that of "
            "a root is at 0: method='bayesian' needs no gradient"
        )


class _Ascent:
    """The score and the log-prior as functions of the codes that move."""

    def __init__(
        self,
        pair: Pair,
        score: Score,
        batch: tuple[Tensor, ...],
        site: str | None,
        inputs: Inputs | None,
        given: Sequence[str],
        slopes: bool,
    ) -> None:
        self.pair, self.score, self.given, self.slopes = pair, score, held(given, inputs), slopes
        self.batch = put(pair, batch, inputs)
        sites = centre(pair, batch)
        if site is not None:
            check_site(site, sites)
        moving = [name for name in sites if site in (None, name) and _can_move(sites[name])]
        if not moving:
            still = [site] if site else list(sites)
            raise ValueError(f"no latent site can move: {still} are discrete or shared by all data")
        values = {name: each["value"].detach() for name, each in sites.items()}
        with_values = run(poutine.condition(pair.model, data=values), self.batch)
        self.sites: dict[str, Site] = {name: with_values.nodes[name] for name in sites}
        self.codes: Codes = {name: values[name].expand(self._shape(name)).clone() for name in moving}
        self.fixed = {name: each for name, each in values.items() if name not in moving}
        self.held = {name: laid_out(each, self.sites[name]) for name, each in self.fixed.items()}

    def _shape(self, name: str) -> torch.Size:
        fn = self.sites[name]["fn"]
        return fn.batch_shape + fn.event_shape  # type: ignore[no-any-return]

    def unconstrained(self, name: str, code: Tensor) -> Tensor:
        """A code as a number of the whole line; one at an end of the support comes from a little inside."""
        fn = self.sites[name]["fn"]
        try:
            free: Tensor = biject_to(fn.support).inv(code)
        except NotImplementedError:
            raise ValueError(
                f"site {name!r}: the values of its {innermost_name(fn)} are {in_words(fn.support)}, which no "
                "line of numbers stands for, so there is no gradient to follow: say site=..., another one"
            ) from None
        return free.clamp(-1e4, 1e4).clone()

    def shell(self, batch: tuple[Tensor, ...]) -> Shell:
        """Where the codes of data lie: from draws of the guide, several a datum where there are few."""
        repeats = -(-_CODES // len(batch[0]))
        many = tuple(each.repeat(repeats, *[1] * (each.dim() - 1)) for each in batch)
        sites = latent_sites(run(self.pair.guide, many))
        codes = {name: self.unconstrained(name, sites[name]["value"]) for name in self.codes}
        return Shell.of(codes, {name: len(sites[name]["fn"].event_shape) for name in codes})

    def constrained(self, free: Mapping[str, Tensor]) -> Codes:
        """The codes, laid out as a query has them."""
        values = {name: biject_to(self.sites[name]["fn"].support)(each) for name, each in free.items()}
        return {name: laid_out(each, self.sites[name]) for name, each in values.items()}

    def at(self, free: Mapping[str, Tensor]) -> tuple[Tensor, Tensor]:
        """(n,) score and (n,) log-prior."""
        moved = {name: biject_to(self.sites[name]["fn"].support)(each) for name, each in free.items()}
        trace = run(poutine.condition(self.pair.model, data={**self.fixed, **moved}), self.batch)
        means = {}
        for name, each in sample_sites(trace).items():
            if name in self.sites or name in self.given or not each["is_observed"]:
                continue
            mean = mean_of(each)
            if mean is None:
                raise ValueError(f"site {name!r}: its {type(each['fn']).__name__} has no mean to be scored")
            means[name] = laid_out(mean, each)
        value = self.score(next(iter(means.values())) if len(means) == 1 else means)
        count = len(self.batch[0])
        if not self.slopes and not isinstance(value, Tensor):
            value = _as_numbers(value).to(self.batch[0].device)
        if not isinstance(value, Tensor) or value.shape != (count,):
            what = f"shape {tuple(value.shape)}" if isinstance(value, Tensor) else type(value).__name__
            raise ValueError(f"score must give ({count},) numbers, one for each datum, and gave {what}")
        if self.slopes and not value.requires_grad:
            raise ValueError(
                "score does not depend on the codes in a way that has a gradient: it takes the data's means "
                "as tensors, without .detach(), argmax or NumPy. method='bayesian' needs no gradient"
            )
        log_prior = torch.zeros((), dtype=value.dtype, device=value.device)
        for name in free:
            each = trace.nodes[name]
            require_density(each)
            log_prior = log_prior + each["fn"].log_prob(each["value"]).reshape(-1, count).sum(0)
        return value, log_prior


def _as_numbers(value: Any) -> Any:
    """A score from NumPy, pandas or a list, where nothing is to be differentiated."""
    try:
        return tensor_of(value).double()
    except (TypeError, ValueError, RuntimeError):
        raise ValueError(f"score must give numbers, one for each datum, and gave {value!r:.80}") from None


def _can_move(site: Site) -> bool:
    return not is_discrete(site["fn"]) and data_frame(site) is not None
