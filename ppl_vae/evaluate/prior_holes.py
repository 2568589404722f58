"""Holes: where the prior draws latents that no datum is encoded to."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from ppl_vae.core.checks import checked
from ppl_vae.core.isolation import one_thread, questioning
from ppl_vae.core.pair import Pair
from ppl_vae.evaluate.batches import to_data
from ppl_vae.evaluate.kernel_density import best_width, log_density
from ppl_vae.evaluate.lines import plus_minus, rows
from ppl_vae.evaluate.loop import check_pair_type, progress_bar
from ppl_vae.queries.handlers import is_discrete, run
from ppl_vae.queries.questions import encode, sample

_GRID = 100
_BATCH = 1000


@dataclass(frozen=True, eq=False)
class Holes:
    """Aggregate posterior and prior of a latent site in the plane of two of its dimensions.

    Attributes:
        site, dims: the site and the two dimensions.
        share: the share of the prior's draws that fall in holes; about `level` where there are none.
        standard_error: of `share`.
        num_data: N, the data that were given.
        level: the share of data's own codes that count as in a hole.
        codes: (M, 2), draws of the aggregate posterior.
        datum: (M,), the number of the datum that each of them belongs to.
        draws: (S, 2), of the prior.
        in_hole: (S,), bool.
        grid: two tensors (G,), the places of the densities along each dimension.
        log_prior, log_aggregate: (G, G), log-densities at [i, j] = (grid[0][i], grid[1][j]).
        threshold: of `log_aggregate`, below which there is a hole.
    """

    site: str
    dims: tuple[int, int]
    share: float
    standard_error: float
    num_data: int
    level: float
    codes: Tensor = field(repr=False)
    datum: Tensor = field(repr=False)
    draws: Tensor = field(repr=False)
    in_hole: Tensor = field(repr=False)
    grid: tuple[Tensor, Tensor] = field(repr=False)
    log_prior: Tensor = field(repr=False)
    log_aggregate: Tensor = field(repr=False)
    threshold: float

    def in_hole_at(self, codes: Tensor) -> Tensor:
        """(n,), True where codes (n, d) of the site stand in a hole, read off the grid, or outside of it.

        Raises:
            ValueError: for codes that are not vectors of the site.
        """
        if codes.dim() != 2 or codes.shape[1] <= max(self.dims):
            raise ValueError(
                f"codes of site {self.site!r} are (n, d) with d > {max(self.dims)}, got {tuple(codes.shape)}"
            )
        places, inside = [], torch.ones(len(codes), dtype=torch.bool)
        for dim, line in zip(self.dims, self.grid):
            place = (codes[:, dim].detach().cpu().double() - line[0]) / (line[1] - line[0])
            inside &= (place > -0.5) & (place < len(line) - 0.5)
            places.append(place.round().clamp(0, len(line) - 1).nan_to_num(0.0).long())
        return ~inside | (self.log_aggregate[places[0], places[1]] < self.threshold)

    def lines(self) -> list[tuple[str, str, str]]:
        """(name, value, remark) of each line of the table."""
        share = plus_minus(100 * self.share, 100 * self.standard_error) + " %"
        return [("in holes", share, f"of {len(self.draws):,} draws; {100 * self.level:g} % were q(z) = p(z)")]

    def __str__(self) -> str:
        dims = " and ".join(f"{self.site}[{dim}]" for dim in self.dims)
        return rows(f"draws of the prior where no data are, in {dims}", self.lines())


@one_thread
@checked()
def holes(
    pair: Pair,
    data: Any,
    site: str | None = None,
    dims: tuple[int, int] | None = None,
    *,
    level: float = 0.01,
    num_draws: int = 4000,
    seed: int | None = 0,
    progress: bool = False,
) -> Holes:
    r"""The share of the prior's draws that fall where the aggregate posterior of a data set is thin.

    .. math:: q(z) = \frac1N \sum_n q(z \mid x_n), \qquad
        \text{hole} = \{z : q(z) < t\}, \qquad \Pr_{z \sim q}[q(z) < t] = \text{level}

    Both are seen in the plane of two dimensions, so that a picture of it (`plots.holes`) shows what is
    counted. Everything is read off draws, whatever the guide and the prior: q is a kernel estimate from
    the codes of half of the data, its width the one under which the codes of the other half are
    likeliest, and t a quantile of those. Were q(z) = p(z), codes of the other half and draws of the prior
    could not be told apart, and the share would be `level`, whatever the kernel. A model that is
    conditional has p(z) averaged over the data's inputs.

    Args:
        pair: model and guide; their modules are in eval mode meanwhile.
        data: a `data.Split`, a Tensor (N, *event), a tuple of Tensors (N, ...), or what
            `data.as_split` takes.
        site: the latent site; needed when there are several.
        dims: two dimensions of it; by default those in which the guide's mean varies most.
        level: the share of codes that count as in a hole.
        num_draws: of the prior and of the aggregate posterior, about: several for each datum, or one for
            some of the data, drawn at random.
        seed: of the draws; the caller's random numbers stay as they were. None draws from those.
        progress: show a progress bar.

    Raises:
        ValueError: for a site that is not one real vector of two dimensions or more for each datum, for other
            dims, a level outside (0, 1), fewer than 20 data, and a model without a prior.

    Rosca, Lakshminarayanan and Mohamed, Distribution Matching in Variational Inference, arXiv:1802.06847;
    Tomczak and Welling, arXiv:1705.07120.
    """
    check_pair_type(pair)
    if not 0 < level < 1:
        raise ValueError(f"level must be between 0 and 1, got {level!r}")
    with questioning(pair, seed, pair.device):
        source = to_data(data, pair)
        if len(source) < 20:
            raise ValueError(f"a density needs 20 data or more, got {len(source)}")
        repeats = math.ceil(num_draws / len(source))
        codes: list[Tensor] = []
        draws: list[Tensor] = []
        means: list[Tensor] = []
        with progress_bar(len(source), "holes", "data", progress) as bar:
            for batch in source.batches(_BATCH):
                size = len(batch[0])
                encoded = encode(pair, *batch, num_samples=repeats)
                site = _only_site(site, list(encoded.latents))
                if not codes and is_discrete(run(pair.guide, batch).nodes[site]["fn"]):
                    raise ValueError(
                        f"site {site!r} is discrete: it has probabilities and no density to be thin"
                    )
                again = tuple(tensor.repeat(repeats, *[1] * (tensor.dim() - 1)) for tensor in batch)
                drawn = sample(pair, size * repeats, like=again)
                _check_vector(site, encoded.means[site], drawn.latents[site], size)
                codes.append(encoded.latents[site].reshape(repeats, size, -1))
                means.append(encoded.means[site])
                draws.append(drawn.latents[site])
                bar.update(size)
        mean = torch.cat(means)
        chosen = _dims(dims, mean)
        plane = torch.cat(codes, 1)[..., chosen].cpu().double()
        prior = torch.cat(draws)[:, chosen].cpu().double()
        used = torch.randperm(len(source))[:num_draws]
        if len(used) < len(source):
            prior = prior[torch.randperm(len(prior))[:num_draws]]
        assert site is not None  # the loop ran
        return _in_plane(site, (chosen[0], chosen[1]), level, plane[:, used], used, len(source), prior)


def _in_plane(
    site: str, dims: tuple[int, int], level: float, codes: Tensor, datum: Tensor, num_data: int, prior: Tensor
) -> Holes:
    """From codes (K, N, 2) of N data in random order, their numbers (N,), and draws of the prior (S, 2)."""
    size = codes.flatten(0, 1).std(0).clamp_min(1e-12)
    # by datum, since two codes of one are no independent witnesses
    half, other = (part.flatten(0, 1) / size for part in codes.tensor_split(2, 1))
    draws = prior / size
    width = best_width(half, other)
    threshold = log_density(other, half, width).quantile(level)
    in_hole = log_density(draws, half, width) < threshold
    both = torch.cat([codes.flatten(0, 1), prior])
    low, high = both.quantile(0.002, 0), both.quantile(0.998, 0)
    margin = 0.08 * (high - low)
    axes = [torch.linspace(float(a), float(b), _GRID) for a, b in zip(low - margin, high + margin)]
    points = torch.cartesian_prod(*axes).double() / size
    first, second = draws.tensor_split(2)
    jacobian = float(size.log().sum())
    share = float(in_hole.double().mean())
    return Holes(
        site=site,
        dims=dims,
        share=share,
        standard_error=math.sqrt(share * (1 - share) / len(in_hole)),
        num_data=num_data,
        level=level,
        codes=codes.flatten(0, 1),
        datum=datum.repeat(codes.shape[0]),
        draws=prior,
        in_hole=in_hole,
        grid=(axes[0], axes[1]),
        log_prior=log_density(points, draws, best_width(first, second)).view(_GRID, _GRID) - jacobian,
        log_aggregate=log_density(points, half, width).view(_GRID, _GRID) - jacobian,
        threshold=float(threshold) - jacobian,
    )


def _only_site(site: str | None, sites: list[str]) -> str:
    if site is None and len(sites) == 1:
        return sites[0]
    if site not in sites:
        what = "say which one, site=..." if site is None else f"not {site!r}"
        raise ValueError(f"this pair has the latent sites {sites}: {what}")
    return site


def _check_vector(site: str, mean: Tensor, drawn: Tensor, size: int) -> None:
    for value in (mean, drawn):
        vector = value.dim() == 2 and len(value) % size == 0 and value.shape[1] >= 2
        if not (vector and value.is_floating_point()):
            raise ValueError(
                f"site {site!r}: holes are seen in two dimensions of one real vector for each datum, (n, d) "
                f"with d >= 2, but its draws are {tuple(value.shape)} of type {value.dtype}"
            )


def _dims(dims: tuple[int, int] | None, mean: Tensor) -> list[int]:
    if dims is None:
        return sorted(mean.double().var(0).topk(2).indices.tolist())
    found = list(dims)
    if len(set(found)) != 2 or not all(0 <= dim < mean.shape[1] for dim in found):
        raise ValueError(f"dims must be two different numbers in 0 ... {mean.shape[1] - 1}, got {dims}")
    return found
