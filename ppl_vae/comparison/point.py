"""At a point: bounds and gradients of estimators at one set of parameters, on the same noise."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from ppl_vae.capture.function import Capture
from ppl_vae.comparison.cost import cost
from ppl_vae.comparison.factories import Estimators, Family, families
from ppl_vae.comparison.gradients import PARTS, GradientSampler
from ppl_vae.comparison.moments import Estimate, Moments, snr_floor
from ppl_vae.comparison.point_result import AtPoint, Cell
from ppl_vae.comparison.reference import Evidence, References, evidence_of, sample_moments
from ppl_vae.core.checks import check_count
from ppl_vae.core.isolation import one_thread, random_numbers
from ppl_vae.core.meeting import meet
from ppl_vae.core.missing import takes_missing
from ppl_vae.core.pair import Pair
from ppl_vae.data import DataSet, Split, as_split, for_pair
from ppl_vae.data.convert import is_several
from ppl_vae.data.known_table import of_table
from ppl_vae.data.selection import in_order
from ppl_vae.terminal.progress import show_progress
from ppl_vae.testing.linter import check_estimator_for

LADDER = (1, 2, 5, 10, 20, 50)


@one_thread
def at_point(
    pair: Pair,
    estimators: Estimators,
    data: Tensor | Sequence[Tensor] | Split | DataSet,
    *,
    num_particles: Sequence[int] = LADDER,
    draws: int = 1000,
    reference_draws: int | None = None,
    evidence_particles: int = 10_000,
    num_data: int = 8,
    seed: int = 0,
    check: bool = True,
    capture: Capture = "auto",
    progress: bool = True,
) -> AtPoint:
    r"""Compare estimators at the parameters that a pair has, without training it.

    For each estimator and K: `draws` independent draws of the bound and of its gradient g, means over
    the batch in nats per datum, modules in eval mode. For the model's and the guide's parameters apart,
    as means over those P parameters, with what the noise of the draws adds to a square taken off:

    .. math:: \mathrm{signal}^2 = \overline{\mathbb{E}[g_j]^2}, \qquad
        \mathrm{variance} = \overline{\mathrm{Var}[g_j]}, \qquad
        \mathrm{SNR}^2 = \overline{\mathbb{E}[g_j]^2 / \mathrm{Var}[g_j]}, \qquad
        \mathrm{bias}^2 = \overline{(\mathbb{E}[g_j] - r_j)^2}

    So `snr` is the root mean square of Rainforth's ratio :math:`|\mathbb{E}[g_j]| / \mathrm{sd}(g_j)`;
    `snr_absolute` is the ratio's plain mean, whose estimate does not fall below `snr_floor`. There are
    two references r: the gradient of the estimator's own expected bound (`bias`), from independent
    draws of an unbiased estimator of it; and, for the model, the gradient of log p(x) (`distance`),
    exact where the model has `log_evidence(*batch)`, else that of an IWAE with many particles. The
    result's `references` say which. Standard errors are jackknifed.

    Estimators that draw alike share their noise at each K. Draws are vectorised; what cannot be is
    drawn in a loop (the result's `loops` say why) and has noise of its own.

    Args:
        pair: the pair; it is left as it is.
        estimators: classes, objects, or a mapping of names to functions of K; see `factories.families`.
        data: the batch: a tensor or a tuple of tensors, all of it; of a split, or the training part of
            a data set, the first `num_data` rows.
        num_particles: the Ks. An estimator that keeps its own K is measured at that one.
        draws: gradients drawn of each, 10 or more.
        reference_draws: gradients drawn for the bias; by default four times `draws`, 0 for no bias.
        evidence_particles: K of the importance-sampling estimate of log p(x), where it is not known.
        num_data: rows of a split or data set to take.
        seed: of all draws; the caller's random numbers are left as they were.
        check: refuse estimators that are not valid for the pair.
        capture: compute the draws with compiled graphs (`ppl_vae.capture`), one for each estimator and K,
            from the same random numbers: the result is that of False to rounding. "auto" does so where the
            draws are enough to repay the compilation, some seconds each, and says in a warning when it
            cannot; True always.
        progress: show a progress bar.

    Raises:
        CaptureError: with `capture=True`, for a pair or an estimator that cannot be captured.
        PairError: for an estimator that is not valid for the pair; names the site and valid ones.
        ValueError: for a number out of range, or no estimators.

    Rainforth et al., Tighter Variational Bounds are Not Necessarily Better, arXiv:1802.04537.

    >>> import torch
    >>> from ppl_vae import Pair, estimators, guides, models, nets
    >>> from ppl_vae import comparison
    >>> pair = Pair(models.LinearGaussian(2, 3), guides.MeanField(nets.MLPEncoder((3,), 2)))
    >>> result = comparison.at_point(
    ...     pair, [estimators.IWAE, estimators.DReG], torch.zeros(4, 3),
    ...     num_particles=[1, 5], draws=20, progress=False,
    ... )
    >>> result.table[["estimator", "K"]].values.tolist()
    [['IWAE', 1], ['DReG', 1], ['IWAE', 5], ['DReG', 5]]
    """
    reference_draws = 4 * draws if reference_draws is None else reference_draws
    check_count("draws", draws, least=10)
    check_count("reference_draws", reference_draws or 10, least=10)
    chosen = families(estimators)
    cells = _cells(chosen, _ladder(num_particles))
    batch = _batch(pair, data, num_data, seed)
    if check:
        for family, size in cells:
            check_estimator_for(pair, batch, family.make(size))
    evidence = evidence_of(pair, batch, evidence_particles, max(10, draws // 10), seed, capture)
    measured: list[Cell] = []
    references = References(pair, batch, reference_draws, seed, capture)
    last = None
    with show_progress(len(cells), "at a point", "bounds", show=progress) as bar:
        for family, size in cells:
            bar.describe(f"{family.name}, K = {size}")
            if size != last:  # they are large, and only of use to estimators of the same K
                references = References(pair, batch, reference_draws, seed + 17 * size + 1, capture)
                last = size
            sampler = GradientSampler(pair, family.make(size), batch, capture)
            measured.append(_measure(sampler, family, size, draws, seed + 17 * size, references, evidence))
            bar.update()
    return AtPoint.of(
        measured,
        {
            "draws": draws,
            "reference_draws": reference_draws,
            "snr_floor": snr_floor(draws),
            "num_data": len(batch[0]),
            "seed": seed,
            "evidence": evidence.value,
            "evidence_standard_error": evidence.standard_error,
            "evidence_source": evidence.source,
            "evidence_is_lower_bound": int(evidence.is_lower_bound),  # netCDF has no truth values
            "distance_source": evidence.gradient_source,
        },
    )


def _measure(
    sampler: GradientSampler,
    family: Family,
    size: int,
    draws: int,
    seed: int,
    references: References,
    evidence: Evidence,
) -> Cell:
    bounds, moments = sample_moments(sampler, draws, seed)
    reference = references.of(sampler.estimator)
    seconds, memory = cost(sampler.pair, family.make(size), sampler.batch)
    bound = bounds.mean().item() if bool(bounds.isfinite().all()) else math.nan
    error = (bounds.std() / math.sqrt(draws)).item()
    values: dict[str, float] = {
        "bound": bound,
        "bound_standard_error": error,
        "gap": evidence.value - bound,
        "gap_standard_error": math.hypot(error, evidence.standard_error),
        "seconds": seconds,
        "memory": float(memory),
    }
    parts: dict[str, dict[str, float]] = {}
    for part in PARTS:
        columns = sampler.layout.part(part)
        own = moments.part(columns)
        if not own.total.shape[1]:
            continue
        parts[part] = {
            "variance": own.variance().value,
            "variance_standard_error": own.variance().standard_error,
            **_root("signal", own.signal()),
            **_root("snr", own.snr_squared()),
            "snr_absolute": own.snr_absolute(),
        }
        if reference is not None:
            target = reference.moments.part(columns)
            parts[part] |= _root("bias", own.distance(target.mean, target))
        if part == "model":
            parts[part] |= _root("distance", _distance(own, evidence))
    return Cell(
        family.name,
        size,
        values,
        parts,
        reference.source if reference is not None else "none",
        sampler.why_not,
    )


def _distance(own: Moments, evidence: Evidence) -> Estimate:
    return own.distance(evidence.gradient.to(own.total), evidence.moments)


def _root(name: str, squared: Estimate) -> dict[str, float]:
    """The root of a squared quantity, zero where noise has made that negative,
    and how sure it is above zero.
    """
    value, error = squared
    root = math.sqrt(max(value, 0.0)) if math.isfinite(value) else math.nan
    # by the delta method; near zero the root has no slope, and the root of the error is its size
    spread = (
        error / (2 * root) if root > 0 and value > 2 * error else math.sqrt(error) if error >= 0 else math.nan
    )
    sigmas = value / error if error > 0 else math.nan
    return {name: root, f"{name}_standard_error": spread, f"{name}_sigmas": sigmas}


def _ladder(num_particles: Sequence[int]) -> list[int]:
    ladder = sorted(set(num_particles))
    if not ladder or not all(isinstance(size, int) and size > 0 for size in ladder):
        raise ValueError(
            f"num_particles must be positive whole numbers, such as [1, 2, 5], got {num_particles!r}"
        )
    return ladder


def _cells(chosen: Sequence[Family], ladder: Sequence[int]) -> list[tuple[Family, int]]:
    """By K, since what is shared is shared within one."""
    cells = [
        (family, size) for family in chosen if family.only is None for size in ladder if _exists(family, size)
    ]
    cells += [(family, family.only) for family in chosen if family.only is not None]
    return sorted(cells, key=lambda cell: cell[1])


def _exists(family: Family, size: int) -> bool:
    """Whether there is an estimator with so few particles: VIMCO needs two."""
    try:
        family.make(size)
    except (ValueError, AssertionError):
        if size > 1:
            raise
        return False
    return True


def _batch(
    pair: Pair, data: Tensor | Sequence[Tensor] | Split | DataSet, num_data: int, seed: int
) -> tuple[Tensor, ...]:
    if isinstance(data, DataSet):
        data = data.train
    if isinstance(data, Tensor):
        tensors: Sequence[Tensor] = (data,)
    elif isinstance(data, Sequence):
        tensors = in_order(data, pair)
    else:
        split = for_pair(as_split(of_table(data, pair), takes_missing(pair.model)), pair)
        with random_numbers(seed, torch.device("cpu")):
            tensors = split.take(num_data).tensors() if is_several(data) else split.tensors()
    batch = tuple(tensor.to(pair.device) for tensor in tensors)
    meet(pair, batch)
    return batch
