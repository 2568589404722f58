"""Simulation-based calibration: whether the guide's posteriors are as wide as they should be,
and in their place.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from ppl_vae.core.checks import checked
from ppl_vae.core.isolation import one_thread, questioning
from ppl_vae.core.pair import Pair
from ppl_vae.evaluate.batches import Tensors
from ppl_vae.evaluate.lines import rows
from ppl_vae.evaluate.loop import batches, check_pair_type
from ppl_vae.evaluate.ranks import LIKELIHOOD, labels_of, own_latents, ranked_of_truth, ranks_of
from ppl_vae.evaluate.uniformity import p_value
from ppl_vae.queries.arguments import Batch as Given
from ppl_vae.queries.handlers import latent_sites
from ppl_vae.queries.inputs import Inputs
from ppl_vae.queries.simulated import simulate

_SHOWN = 12  # dimensions in a table
_CLEAR = 3.0  # standard errors


@dataclass(frozen=True, eq=False)
class Calibration:
    """Ranks of the latents that made the data among the guide's draws, and whether they are uniform.

    Attributes:
        names: (D,) what is ranked: "z[0]", ..., the elements of each latent site, and `LIKELIHOOD`.
        ranks: (S, D), how many of the guide's draws lie below the latent that made the datum, 0 ... L.
        num_draws: L.
        p_values: (D,), of uniform ranks; exact for each dimension, see `uniformity.p_value`.
        level: of the verdict over all dimensions together.
        shift: (D,), the ranks' mean less that of uniform ones, in standard errors: positive where the guide's
            draws lie too low.
        spread: (D,), the ranks' mean square distance from the middle less that of uniform ones, in standard
            errors: positive where the guide is too narrow.
    """

    names: tuple[str, ...]
    ranks: Tensor = field(repr=False)
    num_draws: int
    p_values: Tensor = field(repr=False)
    level: float
    shift: Tensor = field(repr=False)
    spread: Tensor = field(repr=False)

    @property
    def p_value(self) -> float:
        """Of all dimensions together, by Bonferroni's correction."""
        return min(1.0, len(self.names) * float(self.p_values.min()))

    @property
    def departs(self) -> tuple[str, ...]:
        """The dimensions whose ranks leave a band that all would be in with probability `level`."""
        limit = (1 - self.level) / len(self.names)
        return tuple(name for name, value in zip(self.names, self.p_values.tolist()) if value < limit)

    def verdict(self, name: str) -> str:
        """What is wrong with the guide's draws in a dimension: "too narrow", "too wide", "too low",
        "too high"; of the likelihood, that they "fit better" or "fit worse" than what made x; else "uniform".
        """
        number = self.names.index(name)
        if name not in self.departs:
            return "uniform"
        spread, shift = float(self.spread[number]), float(self.shift[number])
        if name == LIKELIHOOD:
            return "of another shape" if abs(shift) <= _CLEAR else f"fit {'worse' if shift > 0 else 'better'}"
        # far out of place, ranks pile up at one end, and so are spread wider too
        clear = max(_CLEAR, max(abs(spread), abs(shift)) / 2)
        words = ["too narrow" if spread > 0 else "too wide"] * (abs(spread) > clear)
        words += ["too low" if shift > 0 else "too high"] * (abs(shift) > clear)
        return " and ".join(words) or "of another shape"

    def lines(self) -> list[tuple[str, str, str]]:
        """(name, value, remark) of each line of the table."""
        number, departs = len(self.names), self.departs
        lines = [
            ("uniform ranks", f"{number - len(departs)}", f"of {number}; p = {self.p_value:.2g} for all")
        ]
        worst = sorted(departs, key=lambda name: float(self.p_values[self.names.index(name)]))
        for name in worst[:_SHOWN]:
            value = float(self.p_values[self.names.index(name)])
            lines.append((name, f"p = {value:.2g}", f"draws {self.verdict(name)}"))
        if len(worst) > _SHOWN:
            lines.append(("...", f"{len(worst) - _SHOWN} more", "in `departs`"))
        return lines

    def __str__(self) -> str:
        title = f"{len(self.ranks):,} simulated data, the rank of each latent among {self.num_draws:,} draws"
        return rows(title, self.lines())


@one_thread
@checked()
def calibration(
    pair: Pair,
    num_simulations: int = 1000,
    num_draws: int = 100,
    *,
    inputs: Inputs | None = None,
    like: Given | None = None,
    given: Sequence[str] = (),
    level: float = 0.95,
    batch_size: int | None = None,
    seed: int | None = 0,
    progress: bool = False,
) -> Calibration:
    r"""Whether the guide is the model's posterior, by the rank of what made the data among its draws.

    .. math:: z^*, x \sim p(x, z), \qquad z_1, \dots, z_L \sim q(z \mid x), \qquad
        r = \#\{l : z_l < z^*\} \sim \mathrm{Uniform}\{0, \dots, L\} \text{ if } q(z \mid x) = p(z \mid x)

    for every element of every latent site, and for log p(x | z), without which a guide that ignores x and
    draws from the prior would pass, as would one whose dimensions go together wrongly. Ties, of discrete
    latents for instance, are broken at random. Uniformity is judged by simultaneous bands for the empirical
    distribution function that are exact at any number of simulations (`ppl_vae.evaluate.uniformity`), with
    Bonferroni's correction over the dimensions. It says how good the guide is at the model's own data, and
    nothing about the model.

    Args:
        pair: model and guide; their modules are in eval mode meanwhile.
        num_simulations: S, data drawn from the model.
        num_draws: L, draws of the guide for each.
        inputs, like, given: as in `pv.sample`: what a conditional model is told.
        level: the probability that a calibrated guide is found uniform in all dimensions.
        batch_size: data at a time; chosen for the cache where None.
        seed: of the draws; the caller's random numbers stay as they were. None draws from those.
        progress: show a progress bar.

    Raises:
        PairError: latents outside the `data` plate (they are named), a guide without latents or without a
            density, a NaN; a site whose data are not the programs' arguments, and an argument that the guide
            reads and that is neither data nor chosen.
        ValueError: as `pv.sample`; a number that is not positive, a level outside (0, 1).

    Talts, Betancourt, Simpson, Vehtari and Gelman, Validating Bayesian Inference Algorithms with
    Simulation-Based Calibration, arXiv:1804.06788; Modrák et al., Simulation-Based Calibration Checking for
    Bayesian Computation: The Choice of Test Quantities Shapes Sensitivity, arXiv:2211.02383; Säilynoja,
    Bürkner and Vehtari, arXiv:2103.10522.

    >>> from ppl_vae.testing.oracles import linear_gaussian
    >>> oracle = linear_gaussian()
    >>> oracle.pair.remember(oracle.batch)
    >>> calibration(oracle.pair, 200, 20).departs
    ()
    """
    check_pair_type(pair)
    if not 0 < level < 1:
        raise ValueError(f"level must be between 0 and 1, got {level!r}")
    with questioning(pair, seed, pair.device):
        simulated, trace = simulate(pair, num_simulations, inputs=inputs, like=like, given=given)
        values = own_latents(latent_sites(trace, given))
        _, runs = batches(
            pair, Tensors(simulated), num_draws,
            batch_size=batch_size, chunk=None, progress=progress, description="calibration",
        )  # fmt: skip
        alone: dict[str, Any] = {}
        counts: list[Tensor] = []
        for batch in runs:
            if not alone:
                alone = ranked_of_truth(pair, simulated, values, batch)
            done = slice(batch.first, batch.first + len(batch))
            counts.append(ranks_of(batch, {name: value[done] for name, value in alone.items()}))
    ranks = torch.cat(counts)
    names = tuple(label for name, value in alone.items() for label in labels_of(name, value))
    return _judged(names, ranks, num_draws, level)


def _judged(names: tuple[str, ...], ranks: Tensor, num_draws: int, level: float) -> Calibration:
    num_ranks, size = num_draws + 1, len(ranks)
    centred = (ranks.double() + 0.5) / num_ranks - 0.5
    variance = (1 - num_ranks**-2) / 12
    # the fourth moment of numbers -(R-1)/2 ... (R-1)/2, in units of R
    fourth = variance * (3 - 7 / num_ranks**2) / 20
    spread = (centred.square().mean(0) - variance) / math.sqrt(max(fourth - variance**2, 1e-300) / size)
    return Calibration(
        names=names,
        ranks=ranks,
        num_draws=num_draws,
        p_values=torch.tensor([p_value(each.numpy(), num_ranks) for each in ranks.T], dtype=torch.float64),
        level=level,
        shift=centred.mean(0) / math.sqrt(variance / size),
        spread=spread,
    )
