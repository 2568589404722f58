"""The parts of a mixed likelihood: one for each kind of column, tried before they are taken."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Protocol

import torch
from torch import nn
from torch.distributions import Independent

from ppl_vae.likelihoods.bernoulli import Bernoulli
from ppl_vae.likelihoods.categorical import Categorical
from ppl_vae.likelihoods.contract import Likelihood
from ppl_vae.likelihoods.gaussian import Gaussian
from ppl_vae.likelihoods.negative_binomial import NegativeBinomial
from ppl_vae.likelihoods.ordinal import Ordinal


class HasKind(Protocol):
    """A column of x as a table's schema describes it."""

    @property
    def name(self) -> str: ...
    @property
    def kind(self) -> str:
        """ "numeric", "log" (numeric on a logarithmic scale), "count", "category" or "ordinal"."""
        ...

    @property
    def size(self) -> int:
        """How many classes or levels; 1 for a number."""
        ...


def likelihood_of(kind: str, size: int, num_columns: int) -> nn.Module:
    """The likelihood of `num_columns` columns of one kind."""
    if kind == "numeric":
        return Gaussian(scale="learned", event_dim=1, num_columns=num_columns)
    if kind == "count":
        return NegativeBinomial(total_count="learned", event_dim=1, num_columns=num_columns)
    if kind == "category":
        return Bernoulli(event_dim=1) if size == 2 else Categorical(size, event_dim=1)
    if kind == "ordinal":
        return Ordinal(size, event_dim=1, num_columns=num_columns)
    raise ValueError(
        f"likelihoods.Mixed: a column of kind {kind!r}: known are numeric, log, count, category and ordinal; "
        "for another likelihood give the parts and their columns, Mixed(parts, columns)"
    )


def part_of(part: Any) -> Likelihood:
    """A module that was `tried`, by its type."""
    known: Likelihood = part
    return known


def check_columns(parts: Sequence[nn.Module], columns: Sequence[Sequence[int]], names: Sequence[str]) -> None:
    """Raise ValueError unless each of the columns 0, 1, 2, ... is in one part."""
    given = [column for group in columns for column in group]
    if (
        len(parts) != len(columns)
        or not parts
        or not all(columns)
        or sorted(given) != list(range(len(given)))
    ):
        raise ValueError(
            f"likelihoods.Mixed: {len(parts)} parts and the columns {tuple(columns)}: give each part its "
            "columns, so that each of 0, 1, 2, ... is in one of them"
        )
    if names and len(names) != len(given):
        raise ValueError(f"likelihoods.Mixed: {len(names)} names for {len(given)} columns: give one for each")


def tried(part: nn.Module, num_columns: int) -> tuple[int, float]:
    """How many raw numbers a part takes, and a value inside its support, found by running it once."""
    name = type(part).__name__
    if not isinstance(part, Likelihood):
        raise ValueError(
            f"likelihoods.Mixed: {name} is no likelihood: it lacks raw_shape, initial_bias or check"
        )
    (size,) = part.raw_shape((num_columns,))
    state = next(iter([*part.parameters(), *part.buffers()]), torch.zeros(()))
    with torch.no_grad():
        p: Any = part(torch.zeros(size, device=state.device))
    if not isinstance(p, Independent) or tuple(p.event_shape) != (num_columns,) or p.batch_shape:
        raise ValueError(
            f"likelihoods.Mixed: {name} does not give independent columns, an event of shape "
            f"({num_columns},), but {p}: end its forward with .to_event(1), and build it with event_dim=1"
        )
    for value in (0.0, 1.0, 0.5, -1.0):
        x = torch.full((num_columns,), value, device=state.device)
        if bool(p.base_dist.support.check(x).all()) and bool(p.base_dist.log_prob(x).isfinite().all()):
            return size, value
    raise ValueError(
        f"likelihoods.Mixed: none of 0, 1, 0.5 and -1 lies inside the support of {name}, and one of them "
        "stands in for a missing cell: shift or scale the column"
    )
