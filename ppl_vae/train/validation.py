"""A bound and its terms over the validation data, always with the same noise."""

from __future__ import annotations

from pyro.infer import ELBO as PyroELBO

from ppl_vae.core.isolation import one_thread, questioning
from ppl_vae.core.pair import Pair
from ppl_vae.core.subsampling import check_rows, whole_plate
from ppl_vae.data import Split
from ppl_vae.estimators import ELBO, ours
from ppl_vae.train.objective import Terms, terms_of


@one_thread
def validation_size(estimator: PyroELBO) -> int:
    """The data in a batch of a validation."""
    return max(1, 1000 // int(estimator.num_particles))


def validate(pair: Pair, estimator: PyroELBO, split: Split, seed: int) -> dict[str, float]:
    """The bound and the terms of `terms_of` over a split, in nats per datum, always with the same noise.

    For an estimator of Pyro's the bound is the ELBO, since only ours give one per datum.
    """
    bounding = ours(estimator) or ELBO(estimator.num_particles)
    sums: Terms = {}
    with questioning(pair, seed, pair.device):
        for batch in split.batches(validation_size(estimator)):
            with whole_plate(len(batch[0])):
                particles = bounding.draw(pair.model, pair.guide, *batch)
            check_rows(particles, len(batch[0]), whole=True)
            terms = {"bound": bounding.bound(particles).sum(), **terms_of(particles)}
            for name, term in terms.items():
                sums[name] = sums.get(name, 0.0) + term.double()
    return {name: value.item() / len(split) for name, value in sums.items()}
