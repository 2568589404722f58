"""The aggregate posterior of a data set: draws, and their density under the guide of every datum."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from ppl_vae.core.layout import particle_first
from ppl_vae.core.particles import Particles
from ppl_vae.core.sites import inner_plates
from ppl_vae.distributions.factors import factors, marginals
from ppl_vae.evaluate.batches import ELEMENTS, ELEMENTS_ELSEWHERE


@dataclass(frozen=True)
class Read:
    """Draws of a site, K of each of M data, and their densities, on the host in float64 but for z.

    Attributes:
        z: (K, M, *event), on the pair's device.
        log_q, log_p: (K, M), under the guide of the draw's own datum, and under the prior.
        log_p_single: (K, M, D), under the prior by dimension; None where it does not factorise.
    """

    z: Tensor
    log_q: Tensor
    log_p: Tensor
    log_p_single: Tensor | None


class Draws:
    """The draws of one site as they come: chunks of particles within batches of data.

    Attributes:
        guides: the guide's distribution of each batch, of batch shape (B,).
    """

    def __init__(self) -> None:
        self.guides: list[Any] = []
        self._chunks: list[Read] = []
        self._batches: list[Read] = []

    def add(self, site: str, particles: Particles) -> None:
        """Take in a chunk of particles of the current batch."""
        node, size = particles.guide_trace.nodes[site], particles.num_particles
        single, prior = None, particles.model_trace.nodes[site]
        if (p := factors(prior["fn"])) is not None:
            log_p = particle_first(p.log_prob(node["value"]), prior, size)
            single = log_p.reshape(*log_p.shape[:2], -1).cpu().double()
        self._chunks.append(
            Read(
                particle_first(node["value"], node, size).clone(),
                particles.log_guide[site].cpu().double(),
                particles.log_prior[site].cpu().double(),
                single,
            )
        )

    def close_batch(self, guide: Any) -> None:
        """Go on to the next batch; `guide` is the distribution of the one that ends."""
        self.guides.append(guide)
        self._batches.append(_joined(self._chunks, 0))
        self._chunks = []

    def select(self, used: Tensor) -> Read:
        """The draws of the data whose numbers are in `used`, (M,)."""
        everything = _joined(self._batches, 1)
        single = everything.log_p_single
        return Read(
            everything.z[:, used.to(everything.z.device)],
            everything.log_q[:, used],
            everything.log_p[:, used],
            None if single is None else single[:, used],
        )


def _joined(parts: list[Read], dim: int) -> Read:
    singles = [part.log_p_single for part in parts if part.log_p_single is not None]
    return Read(
        torch.cat([part.z for part in parts], dim),
        torch.cat([part.log_q for part in parts], dim),
        torch.cat([part.log_p for part in parts], dim),
        torch.cat(singles, dim) if len(singles) == len(parts) else None,
    )


class Refusals:
    """The sites that have no aggregate posterior as a mixture over data, and why."""

    def __init__(self) -> None:
        self.reasons: dict[str, str] = {}
        self._reference: dict[str, tuple[Tensor, Tensor]] = {}

    def allow(self, site: str, alone: Particles, particles: Particles) -> bool:
        """Whether nothing speaks against a site yet, from two runs of the pair on one batch."""
        if site not in self.reasons and (reason := self._reason(site, alone, particles)):
            self.reasons[site] = reason
        return site not in self.reasons

    def _reason(self, site: str, alone: Particles, particles: Particles) -> str:
        if site not in particles.log_guide or site not in particles.log_prior:
            return "it is in one of the two programs only"
        if site in particles.under_sum:
            return "its prior is a sum over finite sites of the model"
        nodes = [trace.nodes[site] for trace in (particles.guide_trace, particles.model_trace)]
        inner = {plate for node in nodes for plate in inner_plates(node)}
        if inner:
            return f"it is in the plates {sorted(inner)}"
        ratio = particles.scale
        if any(node["mask"] is not None or _differs(node["scale"], ratio) for node in nodes):
            return "a mask or a scale is on it"
        size, node = particles.num_particles, nodes[0]
        own = alone.guide_trace.nodes[site]["fn"]
        z = particle_first(node["value"], node, size)
        if not _close(own.log_prob(z), particles.log_guide[site]):
            return "the guide draws it given other latents"
        # one value under every prior of every batch and every particle: only a fixed prior agrees with itself
        if site not in self._reference:
            value = z[0, 0].clone()
            self._reference[site] = value, nodes[1]["fn"].log_prob(value).flatten()[0].clone()
        value, expected = self._reference[site]
        if not _close(nodes[1]["fn"].log_prob(value), expected):
            return "its prior is not one for all data"
        return ""


def log_aggregate(guides: list[Any], z: Tensor, num_data: int, bar: Any) -> tuple[Tensor, Tensor | None]:
    r"""The log-density of draws under the aggregate posterior, and under its marginals.

    .. math:: \log q(z) = \log \frac1N \sum_n q(z \mid x_n), \qquad
        \log q_j(z_j) = \log \frac1N \sum_n q_j(z_j \mid x_n)

    Args:
        guides: q(z | x) of the data, in batches of batch shape (B,).
        z: (K, M, *event).
        num_data: N.
        bar: a progress bar, told of each density.

    Returns:
        (K, M) and (K, M, D), float64 on the host; None for the second where the marginals of a single
        datum's posterior are not known.
    """
    flat = z.flatten(0, 1)
    dims = max(1, flat[0].numel())
    joint = torch.full((len(flat),), -math.inf, dtype=torch.float64)
    known = marginals(guides[0]) is not None
    single = torch.full((len(flat), dims), -math.inf, dtype=torch.float64)
    for fn in guides:
        by_dimension = marginals(fn) if known else None
        factorises = factors(fn) is not None
        size = fn.batch_shape[-1]
        step = max(1, ELEMENTS.get(z.device.type, ELEMENTS_ELSEWHERE) // (size * dims))
        for first in range(0, len(flat), step):
            part = slice(first, first + step)
            value = flat[part].unsqueeze(1)
            if by_dimension is not None:
                log_single = by_dimension.log_prob(value).reshape(len(value), size, dims)
                single[part] = torch.logaddexp(single[part], log_single.logsumexp(1).cpu().double())
            log_joint = log_single.sum(-1) if factorises else fn.log_prob(value)
            joint[part] = torch.logaddexp(joint[part], log_joint.logsumexp(1).cpu().double())
            bar.update(len(flat[part]) * size)
    shape = z.shape[:2]
    joint = (joint - math.log(num_data)).view(shape)
    return joint, (single - math.log(num_data)).view(*shape, dims) if known else None


def _differs(scale: Any, ratio: float) -> bool:
    return (isinstance(scale, Tensor) and scale.dim() > 0) or abs(float(scale) - ratio) > 1e-6 * ratio


def _close(first: Tensor, second: Tensor) -> bool:
    return bool(torch.isclose(first, second, rtol=1e-4, atol=1e-3).all())
