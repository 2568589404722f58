"""Directions in latent space: the vector between the codes of two groups of data, and going along it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from ppl_vae.core.checks import checked
from ppl_vae.core.constraints import in_words
from ppl_vae.core.isolation import one_thread, questioning
from ppl_vae.core.pair import Pair, require_pair
from ppl_vae.core.sites import Site, data_frame
from ppl_vae.queries.arguments import Batch, as_tensors, check_site
from ppl_vae.queries.draws import Draws
from ppl_vae.queries.handlers import centre, is_discrete
from ppl_vae.queries.inputs import Inputs
from ppl_vae.queries.questions import decode
from ppl_vae.queries.site_tensors import laid_out


@dataclass(frozen=True, eq=False)
class Attribute:
    """What sets one group of data apart from another in latent space: the difference of their mean codes.

    Attributes:
        vectors: by latent site, of one datum's shape: the mean code of the group minus that of the others.
        standard_errors: of each number of `vectors`, from the spread of the codes.
        separation: how many standard deviations of the codes along the vector lie between the two means.
        sizes: how many data each group has.
    """

    vectors: Mapping[str, Tensor] = field(repr=False)
    standard_errors: Mapping[str, Tensor] = field(repr=False)
    separation: float
    sizes: tuple[int, int]

    @property
    def vector(self) -> Tensor:
        """The vector of the only latent site."""
        if len(self.vectors) != 1:
            raise ValueError(f"there are vectors of {list(self.vectors)}: take one, .vectors[site]")
        return next(iter(self.vectors.values()))

    @one_thread
    def apply(
        self,
        pair: Pair,
        x: Batch,
        strength: float | Iterable[float] = 1.0,
        *,
        free: Sequence[str] = (),
        inputs: Inputs | None = None,
        given: Sequence[str] = (),
        seed: int | None = None,
    ) -> Draws:
        r"""Decode data with their codes moved along the vector, :math:`\mathrm{E}_q[z \mid x] + s v`.

        Strength 1 goes as far as the one group's mean is from the other's, and a negative one the other way.

        Args:
            pair: the pair.
            x: a batch of n data; the result is (n, ...), or (strengths, n, ...) for several strengths.
            strength: s.
            free: latent sites to leave to the model, drawn given the others: those that hang on a moved
                one in a hierarchy.
            inputs: the model's arguments by name, as in `sample`; those of x by default.
            given: observed sites to hold at the data.

        Raises:
            ValueError: for a strength that is no number or leads out of the latents' support, and sites that
                the pair does not have.
        """
        require_pair(pair)
        steps, several = _steps(strength)
        with questioning(pair, seed, pair.device):
            batch = as_tensors(pair, x)
            sites = centre(pair, batch)
            for name in (*self.vectors, *free):
                check_site(name, sites)
            latents = {}
            for name, site in sites.items():
                if name in free:
                    continue
                code = laid_out(site["value"], site)
                if name in self.vectors:
                    _require_size(site, code, self.vectors[name])
                    scaled = steps.to(code).reshape(-1, *[1] * code.dim())
                    moved = code + scaled * _over_data(self.vectors[name].to(code), site)
                    _require_inside(site, code, moved)
                    code = moved if several else moved[0]
                latents[name] = code
            return decode(pair, latents, inputs=inputs, like=batch, given=given)

    def __str__(self) -> str:
        sites = ", ".join(self.vectors)
        return (
            f"attribute in {sites}: {self.sizes[0]:,} data against {self.sizes[1]:,}, "
            f"{self.separation:.2f} standard deviations apart"
        )


@one_thread
@checked()
def attribute(
    pair: Pair, group: Batch, others: Batch, site: str | None = None, *, seed: int | None = 0
) -> Attribute:
    r"""The vector between the mean codes of two groups of data: what makes a digit bold, or a face smile.

    .. math:: v = \frac{1}{|G|} \sum_{x \in G} \mathrm{E}_q[z \mid x]
        - \frac{1}{|O|} \sum_{x \in O} \mathrm{E}_q[z \mid x]

    Apply it to any data, `attribute(pair, bold, thin).apply(pair, x, strength=(-1, 0, 1, 2))`. Whatever else
    differs between the two groups is in the vector too: balance them. Discrete sites do not move.

    Args:
        pair: the pair.
        group, others: batches with and without the attribute, of any two sizes.
        site: the latent site that has the vector; all continuous ones by default.
        seed: of the means that have to be drawn (of a flow).

    Raises:
        ValueError: for an unknown or discrete site, and for groups of one datum.

    White, Sampling Generative Networks, arXiv:1609.04468.

    >>> from ppl_vae import guides, models, nets
    >>> pair = Pair(models.LinearGaussian(2, 3), guides.MeanField(nets.MLPEncoder((3,), 2)))
    >>> bold = attribute(pair, torch.randn(10, 3) + 1, torch.randn(20, 3))
    >>> bold.vector.shape, bold.apply(pair, torch.randn(4, 3), strength=(-1, 0, 1)).mean.shape
    (torch.Size([2]), torch.Size([3, 4, 3]))
    """
    require_pair(pair)
    with questioning(pair, seed, pair.device):
        found: list[dict[str, Tensor]] = []
        for batch in (group, others):
            tensors = as_tensors(pair, batch)
            if len(tensors[0]) < 2:
                raise ValueError("a group needs two data or more: one datum has no mean code but its own")
            sites = centre(pair, tensors)
            if site is not None:
                check_site(site, sites)
            found.append({name: _by_datum(each) for name, each in sites.items() if _moves(each, site)})
    if not found[0]:
        what = f"site {site!r} is" if site is not None else f"the latent sites {list(sites)} are"
        raise ValueError(f"{what} discrete or shared by all data, and has no direction to go")
    one, two = found
    vectors = {name: one[name].mean(0) - two[name].mean(0) for name in one}
    errors = {
        name: (one[name].var(0) / len(one[name]) + two[name].var(0) / len(two[name])).sqrt() for name in one
    }
    name = next(iter(vectors))
    return Attribute(vectors, errors, _separation(one, two, vectors), (len(one[name]), len(two[name])))


def _steps(strength: Any) -> tuple[Tensor, bool]:
    """(S,) finite numbers, and whether they were given as several."""
    several = isinstance(strength, Iterable) and getattr(strength, "ndim", 1) > 0
    try:
        steps = torch.as_tensor(list(strength) if several else [strength])
        known = steps.dim() == 1 and len(steps) > 0 and bool(steps.double().isfinite().all())
    except (TypeError, ValueError, RuntimeError):
        known = False
    if not known:
        raise ValueError(f"strength must be a finite number, or several, got {strength!r:.80}")
    return steps, several


def _require_size(site: Site, code: Tensor, vector: Tensor) -> None:
    """Refuse a pair whose codes are of another shape than those that the vector is between."""
    event = len(site["fn"].event_shape)
    before = code.shape[: code.dim() - event - 1]
    if vector.shape != before + code.shape[code.dim() - event :]:
        raise ValueError(
            f"site {site['name']!r}: its codes have the shape {list(code.shape)}, data included, and the "
            f"vector {list(vector.shape)} is of other codes: apply it to the pair that it is from"
        )


def _moves(site: Site, chosen: str | None) -> bool:
    return chosen in (None, site["name"]) and not is_discrete(site["fn"]) and data_frame(site) is not None


def _by_datum(site: Site) -> Tensor:
    """(n, *inner plates, *event)."""
    code = laid_out(site["value"], site)
    return code.movedim(code.dim() - len(site["fn"].event_shape) - 1, 0)


def _over_data(vector: Tensor, site: Site) -> Tensor:
    """A datum's vector, to be added to codes (*inner plates, n, *event)."""
    return vector.unsqueeze(vector.dim() - len(site["fn"].event_shape))


def _require_inside(site: Site, before: Tensor, after: Tensor) -> None:
    """Raise ValueError where codes that were in the support are not there any more."""
    support = site["fn"].support
    lost = support.check(before) & ~support.check(after)
    if bool(lost.any()):
        raise ValueError(
            f"site {site['name']!r}: its codes are {in_words(support)}, and {int(lost.sum())} of them are no "
            "more after a step along the vector: take a smaller strength; on a sphere go from one datum to "
            "another, interpolate(pair, x0, x1, method='spherical')"
        )


def _separation(one: Mapping[str, Tensor], two: Mapping[str, Tensor], vectors: Mapping[str, Tensor]) -> float:
    along = [
        sum((each[name] * vectors[name]).reshape(len(each[name]), -1).sum(1).double() for name in vectors)
        for each in (one, two)
    ]
    first, second = (torch.as_tensor(each) for each in along)
    spread = ((len(first) - 1) * first.var() + (len(second) - 1) * second.var()) / (
        len(first) + len(second) - 2
    )
    apart = first.mean() - second.mean()
    return float(apart / spread.sqrt()) if apart else 0.0
