"""SummedModel: the densities of a model's trace as factors over the sites that are summed over."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import torch
from pyro.distributions.util import scale_and_mask
from torch import Tensor

from ppl_vae.core.sites import PARTICLE_PLATE, PairError, Site, data_frame, is_summed
from ppl_vae.core.sum_product import Factor, SumProduct
from ppl_vae.core.terms import draw_log_prob, log_prob, scale_of


class SummedModel:
    """The factors of a model's trace that depend on sites which are summed over."""

    def __init__(self, sites: Mapping[str, Site]) -> None:
        self.nodes = sites
        summed = {name: site for name, site in self.nodes.items() if is_summed(site)}
        for name in summed:
            if data_frame(summed[name]) is None:
                raise PairError(
                    f"site {name!r} of the model is not in the guide and is finite, so it is to be summed "
                    "over; but it stands outside the plate of the data, and couples all of them. Give it to "
                    f"the guide, with estimators.ELBO, or put it into the plate{_elsewhere(summed[name])}"
                )
        # the values' dims bear numbers, which pyro.markov uses again only under another id
        self._names = {
            site["infer"]["_dim_to_id"][site["infer"]["_enumerate_dim"]]: n for n, site in summed.items()
        }
        self.batch: tuple[str, ...] = ()
        sizes: dict[str, int] = {}
        self.factors: dict[str, Factor] = {}
        for name, site in self.nodes.items():
            factor = self._factor(name, site)
            if any(dim in summed for dim in factor.dims):
                self.factors[name] = factor
                sizes |= dict(zip(factor.dims, factor.table.shape))
        kept = frozenset({PARTICLE_PLATE, *(data_frame(site).name for site in summed.values())})
        plates = {
            name: frozenset(frame.name for frame in site["cond_indep_stack"] if frame.dim is not None) - kept
            for name, site in summed.items()
        }
        self.algebra = SumProduct(plates, sizes, kept)
        for name, factor in self.factors.items():
            self._check_plates(name, factor)

    def _factor(self, name: str, site: Site) -> Factor:
        frames = {frame.dim: frame for frame in site["cond_indep_stack"] if frame.dim is not None}
        if is_summed(site):
            density = draw_log_prob(site)  # it sums to one, masked or not
        else:
            density = torch.as_tensor(scale_and_mask(log_prob(site), 1.0, site["mask"]))
        ids = site["infer"].get("_dim_to_id", {})
        if not any(-dim <= density.dim() and density.shape[dim] > 1 for dim in ids):
            return Factor(density, ())  # a site of its own
        lowest = max(density.dim(), *(-dim for dim in frames), 1) if frames else density.dim()
        shape = [
            frames[dim].size if dim in frames else (density.shape[dim] if -dim <= density.dim() else 1)
            for dim in range(-lowest, 0)
        ]
        density = density.expand(shape)
        dims = [dim for dim in range(-lowest, 0) if shape[dim] > 1]
        for dim in dims:
            if dim not in frames and self._names.get(ids.get(dim, -1)) is None:
                raise PairError(
                    f"site {name!r}: its log-density has {shape[dim]} entries along dim {dim}, which belongs "
                    "to no plate and to no site that is summed over. Every dim left of the event must "
                    "belong to a plate"
                )
        named = tuple(frames[dim].name if dim in frames else self._names[ids[dim]] for dim in dims)
        return Factor(density.squeeze([d for d in range(-lowest, 0) if shape[d] == 1]), named)

    def _check_plates(self, name: str, factor: Factor) -> None:
        """Raise PairError for a site outside a plate that depends on a summed one inside it."""
        own = {frame.name for frame in self.nodes[name]["cond_indep_stack"]}
        for variable in factor.dims:
            inside = self.algebra.plates.get(variable, frozenset()) - own
            if inside or (variable in self.algebra.plates and data_frame(self.nodes[name]) is None):
                raise PairError(
                    f"site {name!r} depends on site {variable!r}, which is summed over in each slice of the "
                    f"plates {sorted(inside) or 'of the data'}, and stands outside of them: the sum would "
                    f"have as many terms as {self.algebra.sizes[variable]} to the power of the number of "
                    f"slices. Put it into the plate, or give {variable!r} to the guide, with "
                    "estimators.VIMCO or estimators.NVIL"
                )

    def scale(self, names: Sequence[str]) -> float | Tensor:
        """The scale that sites under one sum share."""
        scales = {name: scale_of(self.nodes[name]) for name in names}
        first = next(iter(scales.values()))
        for each in scales.values():
            single = not any(isinstance(scale, Tensor) and scale.dim() for scale in (each, first))
            if not single or not (each is first or math.isclose(each, first, rel_tol=1e-6)):
                raise PairError(
                    f"the sites {list(names)} stand under one sum, over the finite ones among them, and do "
                    "not all have one scale that is a single number: put one poutine.scale around all of "
                    "them, or none; a plate that subsamples holds all of them or none. The weight of a KL "
                    "term is fit(..., kl=kl.Beta(...))"
                )
        return first if isinstance(first, Tensor) else float(first)

    def per_datum(self, factor: Factor, num_particles: int) -> Tensor:
        """(K, B) of a factor without variables."""
        frame = next(data_frame(site) for site in self.nodes.values() if data_frame(site) is not None)
        table, dims = factor.table, factor.dims
        if frame.name not in dims:
            table, dims = table.unsqueeze(-1), (*dims, frame.name)
        if PARTICLE_PLATE not in dims:
            table, dims = table.unsqueeze(0), (PARTICLE_PLATE, *dims)
        if dims[0] == frame.name:
            table = table.mT
        return table.expand(num_particles, frame.size)


def _elsewhere(site: Site) -> str:
    """The plates that a site stands in, none of which is that of the data."""
    frames = [f for f in site["cond_indep_stack"] if f.dim is not None and f.name != PARTICLE_PLATE]
    if not frames:
        return ""
    found = ", ".join(f"{frame.name!r} at dim={frame.dim}" for frame in frames)
    return (
        f". It stands in {found}: the plate of the independent data sits at dim=-1, to the right of all "
        "others, and is called 'data' or named by Pair(..., plate=...)"
    )
