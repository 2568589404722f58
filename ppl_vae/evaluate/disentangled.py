"""Disentanglement: whether each factor that made the data has a dimension of the code to itself."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ppl_vae.core.checks import checked
from ppl_vae.core.isolation import one_thread, questioning
from ppl_vae.core.pair import Pair
from ppl_vae.core.sites import data_frame
from ppl_vae.data import Split
from ppl_vae.evaluate.batches import Data, to_data
from ppl_vae.evaluate.disentanglement_metrics import (
    DCI,
    Factors,
    as_factors,
    dci,
    factor_vae,
    mig,
    mutual_information,
    sap,
)
from ppl_vae.evaluate.lines import rows
from ppl_vae.evaluate.loop import check_pair_type
from ppl_vae.evaluate.some_rows import batches_of, chosen_rows
from ppl_vae.queries.arguments import tensor_of
from ppl_vae.queries.handlers import centre, mean_of
from ppl_vae.queries.site_tensors import data_first

_MOST_LEVELS = 100  # of a discrete factor, each of five data or more


@dataclass(frozen=True, eq=False)
class Disentanglement:
    """Four scores of a code against known factors, each 1 at best.

    Attributes:
        names: (F,) of the factors that vary.
        mig: the mutual information gap, the mean over factors of `mig_by_factor`, (F,).
        sap: the separated attribute predictability, likewise `sap_by_factor`.
        dci: disentanglement, completeness, informativeness and the importances.
        factor_vae: the score of FactorVAE.
        information: (D, F), the mutual information of dimensions and factors, in nats.
        site: the latent site, whose posterior mean is the code.
        continuous: the factors that were taken for continuous.
        constant: the factors that do not vary, and were left out.
    """

    names: tuple[str, ...]
    mig: float
    mig_by_factor: np.ndarray = field(repr=False)
    sap: float
    sap_by_factor: np.ndarray = field(repr=False)
    dci: DCI = field(repr=False)
    factor_vae: float
    information: np.ndarray = field(repr=False)
    site: str
    continuous: tuple[str, ...]
    constant: tuple[str, ...]

    def lines(self) -> list[tuple[str, str, str]]:
        """(name, value, remark) of each line of the table."""

        def each(values: np.ndarray) -> str:
            return ", ".join(f"{name} {value:.2f}" for name, value in zip(self.names, values))

        lines = [
            ("MIG", f"{self.mig:.3f}", each(self.mig_by_factor)),
            ("SAP", f"{self.sap:.3f}", each(self.sap_by_factor)),
            ("DCI disentanglement", f"{self.dci.disentanglement:.3f}", ""),
            ("DCI completeness", f"{self.dci.completeness:.3f}", ""),
            ("DCI informativeness", f"{self.dci.informativeness:.3f}", "accuracy of random forests"),
            ("FactorVAE's score", f"{self.factor_vae:.3f}", f"{1 / len(self.names):.2f} by chance"),
        ]
        for what, found in (("taken for continuous", self.continuous), ("constant", self.constant)):
            lines += [(what, "", ", ".join(found))] * bool(found)
        return lines

    def __str__(self) -> str:
        shape = f"{self.information.shape[0]} dimensions of {self.site!r} against {len(self.names)} factors"
        return rows(shape, self.lines())


@one_thread
@checked(bins=2)
def disentanglement(
    pair: Pair,
    data: Any,
    factors: Any = None,
    *,
    names: Sequence[str] = (),
    continuous: Iterable[str] | None = None,
    site: str | None = None,
    num_train: int = 10_000,
    num_test: int = 5_000,
    bins: int = 20,
    num_votes: int = 10_000,
    seed: int = 0,
) -> Disentanglement:
    r"""MIG, SAP, DCI and FactorVAE's score of the guide's means, against the factors that the data come from.

    The settings are those of the published comparison: 10,000 data to learn from and 5,000 to be judged on
    (two thirds and one third of the data where there are fewer), 20 bins of one width for a code's dimension,
    linear support vector machines with C = 0.01, batches of 64 with one factor held, dimensions of standard
    deviation below 0.05 pruned. Two things differ: DCI's importances are those of random forests, since
    gradient boosting takes minutes for a factor of 40 levels, and FactorVAE's batches are drawn from the data
    at hand.
    A code in which two dimensions say the same has a MIG and a SAP of 0, however clean it is.

    Args:
        pair: the guide alone is run; its modules are in eval mode meanwhile.
        data: a `data.Split` whose factors are known, as of `data.load("sprites")`, or any data and `factors`.
        factors: (N, F), a frame too, or as the split has them.
        names: of the factors, such as `data_set.factor_names`; without, a frame's columns, or "factor 0", ...
        continuous: those without levels, which get `bins` of as many data each for MIG and FactorVAE's score,
            the squared correlation for SAP and regressions for DCI. By default the factors of more than 100
            values, or of fewer than five data a value.
        site: the latent site; needed when there are several.
        num_train, num_test: data, drawn at random.
        bins: of a code's dimension, and of a continuous factor.
        num_votes: batches that FactorVAE's vote is trained on.
        seed: of the draws; the caller's random numbers stay as they were.

    Raises:
        ValueError: no factors, or another number of them than of data; fewer than two that vary; a code of
            fewer than two dimensions; an unknown site or factor.

    Chen et al., Isolating Sources of Disentanglement, arXiv:1802.04942 (MIG); Kumar et al., arXiv:1711.00848
    (SAP); Eastwood and Williams, A Framework for the Quantitative Evaluation of Disentangled Representations,
    ICLR 2018 (DCI); Kim and Mnih, arXiv:1802.05983 (FactorVAE); Locatello et al., arXiv:1811.12359, whose
    settings these are.
    """
    check_pair_type(pair)
    with questioning(pair, seed, pair.device):
        source = to_data(data, pair)
        known = _given(factors, data, len(source))
        chosen = chosen_rows(len(source), num_train + num_test)
        site, codes = _codes(pair, source, chosen, site)
        order = torch.randperm(len(codes)).numpy()
        random = np.random.default_rng(int(torch.randint(2**31, ())))
    labels = _names(names or list(map(str, getattr(factors, "columns", ()))), known.shape[1])
    values = known[chosen.numpy()][order]
    size = min(num_train, 2 * len(codes) // 3) if len(codes) < num_train + num_test else num_train
    varies = np.array([len(np.unique(column)) > 1 for column in values[:size].T])
    if varies.sum() < 2 or codes.shape[1] < 2:
        raise ValueError(
            f"disentanglement is a matter of two factors and of two dimensions of a code or more, got "
            f"{int(varies.sum())} factors that vary and {codes.shape[1]} dimensions"
        )
    kept = tuple(name for name, moves in zip(labels, varies) if moves)
    smooth = _continuous(continuous, labels, values)[varies]
    prepared = as_factors(values[:, varies], smooth, bins)
    return _scores(codes[order], prepared, size, bins, num_votes, random, site=site, names=kept,
                   constant=tuple(name for name in labels if name not in kept))  # fmt: skip


def _scores(
    codes: np.ndarray,
    factors: Factors,
    size: int,
    bins: int,
    num_votes: int,
    random: np.random.Generator,
    **known: Any,
) -> Disentanglement:
    """All scores, the first `size` data to learn from."""
    seed = int(random.integers(2**31))
    held = factor_vae(codes, factors.levels, random, num_votes)  # first, since it may refuse
    train, test = codes[:size], codes[size:]
    information = mutual_information(train, factors.levels[:size], bins)
    gaps = mig(information, factors.levels[:size])
    separated = sap(train, test, factors, seed)
    return Disentanglement(
        mig=float(gaps.mean()),
        mig_by_factor=gaps,
        sap=float(separated.mean()),
        sap_by_factor=separated,
        dci=dci(train, test, factors, seed),
        factor_vae=held,
        information=information,
        continuous=tuple(name for name, smooth in zip(known["names"], factors.continuous) if smooth),
        **known,
    )


def _codes(pair: Pair, source: Data, chosen: Tensor, site: str | None) -> tuple[str, np.ndarray]:
    """The site, and the guide's means there, (n, D)."""
    parts = []
    for batch in batches_of(source, chosen):
        found = {name: node for name, node in centre(pair, batch).items() if data_frame(node) is not None}
        if site is None and len(found) == 1:
            site = next(iter(found))
        if not found:
            raise ValueError("the guide draws no latents for each datum, so there is no code to look at")
        if site not in found:
            what = "say which one, site=..." if site is None else f"not {site!r}"
            raise ValueError(f"the guide has the latent sites {list(found)} for each datum: {what}")
        mean = mean_of(found[site])
        value = data_first(found[site]["value"] if mean is None else mean, found[site])
        parts.append(value.reshape(len(value), -1).cpu().double().numpy())
    codes = np.concatenate(parts)
    if not np.isfinite(codes).all():
        raise ValueError(f"site {site!r}: the guide's mean is not finite for some of the data")
    assert site is not None
    return site, codes


def _given(factors: Any, data: Any, size: int) -> np.ndarray:
    """The factors of all data, (N, F)."""
    if factors is None:
        factors = data.factors if isinstance(data, Split) else None
    if factors is None:
        raise ValueError(
            "the factors that the data come from are not known: give factors=, (N, F), or a data set that "
            "has them, such as data.load('sprites').test"
        )
    try:
        values = tensor_of(factors).detach().cpu().double()
    except (TypeError, ValueError, RuntimeError):
        raise ValueError(f"factors must be numbers, ({size}, F), got {factors!r:.80}") from None
    if values.dim() != 2 or len(values) != size or not bool(values.isfinite().all()):
        raise ValueError(f"factors must be ({size}, F) finite numbers, got shape {tuple(values.shape)}")
    return values.numpy()


def _names(names: Sequence[str], number: int) -> list[str]:
    if names and len(names) != number:
        raise ValueError(f"there are {number} factors, and names for {len(names)}: {list(names)}")
    return list(names) or [f"factor {j}" for j in range(number)]


def _continuous(chosen: Iterable[str] | None, names: list[str], values: np.ndarray) -> np.ndarray:
    if chosen is None:
        levels = np.array([len(np.unique(column)) for column in values.T])
        return (levels > _MOST_LEVELS) | (levels * 5 > len(values))
    wanted = set(chosen)
    if unknown := sorted(wanted - set(names)):
        raise ValueError(f"continuous names {unknown}, but the factors are {names}")
    return np.array([name in wanted for name in names])
