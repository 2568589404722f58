"""Anomalies: scores per datum that are larger where a pair finds it stranger."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any, Literal, NamedTuple

import numpy as np
import torch
from torch import Tensor

from ppl_vae.capture.function import Capture
from ppl_vae.core.checks import check_real, checked
from ppl_vae.core.pair import Pair
from ppl_vae.evaluate.areas import area_under_roc, average_precision
from ppl_vae.evaluate.bounds_on_data import bounds
from ppl_vae.evaluate.gap import inference_gap
from ppl_vae.evaluate.importance_sampling import LogLikelihood, log_likelihood
from ppl_vae.evaluate.lines import plus_minus, rows
from ppl_vae.evaluate.loop import check_pair_type
from ppl_vae.queries.arguments import tensor_of

Method = Literal["likelihood", "elbo", "regret", "typicality", "ratio", "waic"]

METHODS: dict[str, str] = {
    "likelihood": "-log p(x)",
    "elbo": "-ELBO",
    "regret": "best ELBO of the family - ELBO",
    "typicality": "|-log p(x) - H|",
    "ratio": "log p'(x) - log p(x)",
    "waic": "variance - mean of log p(x) over pairs",
}


class _Scored(NamedTuple):
    score: Tensor
    remark: str = ""


@dataclass(frozen=True, eq=False)
class Anomaly:
    """A score for each datum, and how well it tells anomalies where labels are given.

    Attributes:
        method: how it was scored.
        score: (N,), float64; larger is stranger.
        remark: why the score should not be trusted to the last digit; empty for no reason.
        labels: (N,) bool, the anomalies; None where none were given.
        auroc: the probability that an anomaly scores above a normal datum, ties half; nan without labels.
        auroc_standard_error: DeLong's.
        aupr: the area under precision over recall, as average precision; a random score has the share of
            anomalies.
    """

    method: str
    score: Tensor = field(repr=False)
    remark: str = ""
    labels: Tensor | None = field(default=None, repr=False)
    auroc: float = math.nan
    auroc_standard_error: float = math.nan
    aupr: float = math.nan

    def with_labels(self, labels: Any) -> Anomaly:
        """The same scores with labels, (N,), 1 for the anomalies and 0 for normal data, and areas from them.

        Raises:
            ValueError: labels that are not (N,) of both kinds.
        """
        strange = _as_labels(labels, len(self.score))
        area, error = area_under_roc(self.score, strange)
        aupr = average_precision(self.score, strange)
        return replace(self, labels=strange, auroc=area, auroc_standard_error=error, aupr=aupr)

    def lines(self) -> list[tuple[str, str, str]]:
        """(name, value, remark) of each line of the table."""
        low, middle, high = np.quantile(self.score.numpy(), (0.05, 0.5, 0.95), method="nearest")
        lines = [("median", f"{middle:.2f}", f"5 % below {low:.2f}, 5 % above {high:.2f}")]
        if self.labels is not None:
            strange = int(self.labels.sum())
            lines += [
                ("AUROC", plus_minus(self.auroc, self.auroc_standard_error), "0.5 for a random score"),
                ("AUPR", f"{self.aupr:.3f}", f"{strange / len(self.labels):.3f} for a random score"),
            ]
        return lines + [("!", "", self.remark)] * bool(self.remark)

    def __str__(self) -> str:
        return rows(f"{len(self.score):,} data, {METHODS[self.method]}, nats", self.lines())


@checked(num_steps=0)
def anomaly(
    pair: Pair,
    data: Any,
    method: Method = "likelihood",
    labels: Any = None,
    *,
    others: Pair | Sequence[Pair] = (),
    reference: Any = None,
    entropy: float | None = None,
    num_particles: int = 1000,
    num_steps: int = 100,
    step_size: float = 0.2,
    batch_size: int | None = None,
    chunk: int | None = None,
    seed: int | None = 0,
    progress: bool = False,
    capture: Capture = "auto",
) -> Anomaly:
    r"""How strange each datum is to a pair: one of six scores, larger for an anomaly.

    - "likelihood": :math:`-\log p(x)`, by importance sampling (`log_likelihood`); "elbo": its bound.
    - "regret": :math:`\max_{q} \mathcal{L}[q] - \mathcal{L}[q(\cdot \mid x)]`, what the datum's own q, sought
      from the guide's answer on for all data at once (`inference_gap`), gains. It is 0 where the guide
      is the posterior; for a family that holds the posterior it is KL(q || p(z | x)).
    - "typicality": :math:`|{-\log p(x)} - H|`, H the mean of -log p over `reference`, normal data, or
      `entropy`.
    - "ratio": :math:`\log p'(x) - \log p(x)`, p' a simpler pair that knows what all data share (`others`).
    - "waic": :math:`\mathrm{Var} \log p(x) - \mathrm{E} \log p(x)` over this pair and `others`, its other
      runs.

    None of them is right everywhere. -log p follows how simple a datum is: trained on FashionMNIST it finds
    MNIST (AUROC 0.87 by one VAE's ELBO), trained on CIFAR-10 it finds SVHN *less* strange than CIFAR-10's own
    images (0.08); the regret has 0.99 and 0.88 there (arXiv:2003.02977). Another likelihood of the same
    pictures turns such a number round. Scores of different methods do not compare; areas do.

    Args:
        pair: model and guide; their modules are in eval mode meanwhile.
        data: a `data.Split`, a Tensor (N, *event), a tuple of Tensors (N, ...), or what
            `data.as_split` takes.
        method: the score.
        labels: (N,), 1 or True for the anomalies and 0 for normal data.
        others: a simpler pair for "ratio"; for "waic" one or more runs like this one.
        reference: normal data, for "typicality".
        entropy: H in nats, in the place of `reference`.
        num_particles: K, draws for each estimate of log p(x) or of an ELBO.
        num_steps, step_size: of the search of "regret", see `inference_gap`.
        batch_size, chunk, progress, capture: as in `log_likelihood`.
        seed: of the draws; the caller's random numbers stay as they were. None draws from those.

    Raises:
        PairError: as `log_likelihood` and `inference_gap`: latents outside the `data` plate; for the regret a
            guide that has not one reparameterised site.
        ValueError: another method, labels that are not (N,) of both kinds, and arguments that a method lacks.

    Xiao, Yan and Amit, Likelihood Regret, arXiv:2003.02977; Nalisnick et al., Detecting Out-of-Distribution
    Inputs Using a Test for Typicality, arXiv:1906.02994; Ren et al., Likelihood Ratios for
    Out-of-Distribution Detection, arXiv:1906.02845; Choi, Jang and Alemi, WAIC, but Why?, arXiv:1810.01392.

    >>> from ppl_vae.testing.oracles import linear_gaussian
    >>> pair, x = linear_gaussian().pair, torch.zeros(20, 2, dtype=torch.float64)
    >>> x[:5] = 6.0
    >>> anomaly(pair, x, labels=torch.arange(20) < 5, num_particles=50).auroc
    1.0
    """
    check_pair_type(pair)
    if method not in METHODS:
        raise ValueError(f"method must be one of {list(METHODS)}, got {method!r}")
    check_real("step_size", step_size, above=True)
    apart: list[Any] = list(others) if isinstance(others, list | tuple) else [others]
    for other in apart:
        check_pair_type(other)
    _check_needs(method, apart, reference, entropy)
    evidence = partial(
        log_likelihood,
        num_particles=num_particles, batch_size=batch_size, chunk=chunk, seed=seed, progress=progress,
        capture=capture,
    )  # fmt: skip
    if method == "elbo":
        found = bounds(pair, data, num_particles, batch_size=batch_size, seed=seed, progress=progress)
        scored = _Scored(-found.per_datum)
    elif method == "regret":
        gap = inference_gap(
            pair, data, num_particles, num_steps=num_steps, step_size=step_size,
            batch_size=batch_size, chunk=chunk, seed=seed, progress=progress,
        )  # fmt: skip
        scored = _Scored(gap.best_elbo_per_datum - gap.elbo_per_datum)
    else:
        scored = _of_likelihoods(method, [evidence(each, data) for each in (pair, *apart)])
        if method == "typicality":
            known = None if reference is None else evidence(pair, reference)
            middle = entropy if known is None else -known.value
            assert middle is not None
            remark = _remark([known]) if known is not None else ""
            scored = _Scored((scored.score - middle).abs(), scored.remark or remark)
    if bool(scored.score.isnan().any()):  # of infinities, each of which may be right
        first = int(scored.score.isnan().nonzero()[0])
        raise ValueError(f"datum {first}: the {method} score is infinity less infinity, so there is none")
    result = Anomaly(method, scored.score, scored.remark)
    return result if labels is None else result.with_labels(labels)


def _of_likelihoods(method: str, found: Sequence[LogLikelihood]) -> _Scored:
    values = torch.stack([each.per_datum for each in found])
    if method == "ratio":
        score = values[1] - values[0]
    elif method == "waic":
        score = values.var(0) - values.mean(0)
    else:
        score = -values[0]
    return _Scored(score, _remark(found))


def _remark(found: Iterable[LogLikelihood | None]) -> str:
    reasons = [each.why_lower_bound for each in found if each is not None and each.is_lower_bound]
    return f"log p(x) is a lower bound, {reasons[0]}" if reasons else ""


def _check_needs(method: str, others: Sequence[Pair], reference: Any, entropy: float | None) -> None:
    if method == "typicality":
        if (reference is None) == (entropy is None):
            raise ValueError(
                "typicality is the distance of -log p(x) from its mean over normal data: give reference= "
                "such data, or entropy= that mean"
            )
        if entropy is not None and not math.isfinite(entropy):
            raise ValueError(f"entropy must be a finite number of nats, got {entropy!r}")
    elif reference is not None or entropy is not None:
        raise ValueError(f"reference and entropy are for typicality, and the method is {method!r}")
    if method == "ratio" and len(others) != 1:
        raise ValueError(f"the ratio needs one simpler pair, others=pair, got {len(others)}")
    if method == "waic" and not others:
        raise ValueError("waic needs other runs of the pair, others=[pair, ...]: a variance takes two")
    if method not in ("ratio", "waic") and others:
        raise ValueError(f"others is for ratio and waic, and the method is {method!r}")


def _as_labels(labels: Any, size: int) -> Tensor:
    try:
        given = tensor_of(labels).cpu()
    except (TypeError, ValueError, RuntimeError):
        raise ValueError("labels must be numbers, 1 for the anomalies and 0 for normal data") from None
    if given.shape != (size,) or not bool(((given == 0) | (given == 1)).all()):
        raise ValueError(
            f"labels must be ({size},), 1 for the anomalies and 0 for normal data, got shape "
            f"{tuple(given.shape)} with the values {given.unique()[:5].tolist()}"
        )
    strange = given == 1
    if len(strange.unique()) != 2:
        raise ValueError("labels must have both anomalies (1) and normal data (0)")
    return strange
