"""The loop of every evaluation: batches of data, chunks of particles, and a pair left as it was."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import nullcontext
from dataclasses import dataclass
from typing import Any

from torch import Tensor

from ppl_vae.core.isolation import validation
from ppl_vae.core.pair import Pair, require_pair
from ppl_vae.core.particles import Particles
from ppl_vae.core.sites import PairError
from ppl_vae.core.subsampling import draw_whole
from ppl_vae.evaluate.batches import Data, plan, size_of, to_data
from ppl_vae.sampling.point_mass import refuse_point_mass
from ppl_vae.terminal.progress import Progress, show_progress


@dataclass(frozen=True)
class Batch:
    """One batch of an evaluation, whose particles come a chunk at a time."""

    tensors: tuple[Tensor, ...]
    first: int
    """The number of its first datum."""
    chunks: tuple[int, ...]
    pair: Pair
    bar: Progress

    def __len__(self) -> int:
        return size_of(self.tensors)

    def particles(self) -> Iterator[Particles]:
        """The chunks of particles, one after the other; keep none of them.

        Raises:
            PairError: a pair that breaks the contract, or a NaN among the terms of the log-weights.
        """
        for number, size in enumerate(self.chunks):
            yield self.draw(size, check=number == 0)
            self.done(size)

    def draw(self, size: int, check: bool = True) -> Particles:
        """`size` particles.

        Args:
            check: each batch's data is checked once, as the caller has set it; again would only cost time.

        Raises:
            PairError: a pair that breaks the contract.
        """
        with nullcontext() if check else validation(False):
            particles = draw_whole(self.pair.model, self.pair.guide, self.tensors, num_particles=size)
            refuse_point_mass(particles, "this evaluation")
        return particles

    def done(self, size: int) -> None:
        """Count `size` particles in the progress bar."""
        self.bar.update(size * len(self))


def batches(
    pair: Pair,
    data: Any,
    num_particles: int,
    *,
    batch_size: int | None,
    chunk: int | None,
    progress: bool,
    description: str,
) -> tuple[Data, Iterator[Batch]]:
    """The data, and its batches; run them within `isolation.questioning`."""
    source = to_data(data, pair)
    batch_size, chunks = plan(source, num_particles, batch_size, chunk, pair.device)

    def run() -> Iterator[Batch]:
        first = 0
        with progress_bar(len(source) * num_particles, description, "draws", progress) as bar:
            for tensors in source.batches(batch_size):
                yield Batch(tensors, first, chunks, pair, bar)
                first += size_of(tensors)

    return source, run()


def progress_bar(total: int, description: str, unit: str, progress: bool) -> Progress:
    """A bar that goes away when it is done, or lines in a log; nothing is shown unless `progress`."""
    return show_progress(total, description, unit, show=progress, scale=True)


def refuse_global_latents(particles: Particles, what: str) -> None:
    """Raise PairError for a pair with latents outside the `data` plate."""
    if particles.global_sites:
        raise PairError(
            f"{what} needs importance weights per datum, which do not exist while the latents "
            f"{list(particles.global_sites)} outside the plate 'data' are shared by all data: move them "
            f"into the plate, or ask for evaluate.bounds"
        )


def refuse_nan(values: Tensor, particles: Particles, first: int) -> None:
    """Raise PairError when a datum's value, (B,), is NaN; `particles` help to find the site."""
    bad = values.isnan()
    if not bad.any():
        return
    groups = {
        "log-likelihood": particles.log_likelihood,
        "log-prior": particles.log_prior,
        "log-guide": particles.log_guide,
    }
    sites = [
        f"the {kind} of site {name!r}"
        for kind, terms in groups.items()
        for name, term in terms.items()
        if term.isnan().any()
    ]
    where = " and ".join(sites) if sites else "a sum of infinite terms"
    raise PairError(
        f"datum {first + int(bad.nonzero()[0])}: the log-weight is NaN, from {where}. Look for NaN in the "
        f"parameters or in the data; ppl_vae.testing.check_pair(pair, x) tells which statement makes it"
    )


check_pair_type = require_pair
