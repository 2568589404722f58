"""Every question about the posterior over every pair of the zoo: an answer, or a refusal that names why."""

from __future__ import annotations

import warnings

import pytest
import torch

import ppl_vae as pv
from ppl_vae import evaluate
from tests.zoo import PARTS

every_part = pytest.mark.parametrize("case", PARTS)
SHORT = {"num_temperatures": 3, "num_leapfrogs": 2, "progress": False}
REFUSED = {
    "BayesianDecoderVAE": r"\['weight1', 'weight2'\] outside the plate 'data'",
    "Autoencoder": r"puts site 'z' in one point|no prior over",
    "Diffusion": r"site 'z': Denoised has no density",
}
NOT_FACTORISED = "site 'x' does not factorise into elements"
DISCRETE = r"moves continuous latents, and the pair's \[.*\] are finite|discrete and has too many values"
ON_A_SPHERE = "site 'z': no map from all real vectors to the support Sphere"


def posterior(pair, batch, **options):
    found = pv.posterior(pair, *batch, num_samples=4, num_leapfrogs=2, progress=False, **options)
    return [torch.from_numpy(value.to_numpy()) for value in found["posterior"].values()]


def imputed(pair, batch, method):
    generator = torch.Generator().manual_seed(0)
    observed = {"x": torch.rand(batch[0].shape, generator=generator) > 0.3}
    batch = [batch[0], *(each.nan_to_num() if each.is_floating_point() else each for each in batch[1:])]
    result = pv.impute(
        pair, *batch, observed=observed, method=method, num_samples=3, num_proposals=40, warmup=3,
        progress=False,
    )  # fmt: skip
    return [*result.draws.values(), *result.means.values()]


def above_and_below(pair, batch):
    like = batch if len(batch) > 1 else None
    result = evaluate.sandwich(pair, 3, num_chains=2, like=like, **SHORT)
    return [result.lower, result.upper]


def annealed(pair, batch):
    data = batch if len(batch) > 1 else batch[0]
    return [evaluate.log_likelihood(pair, data, 4, method="ais", **SHORT).per_datum]


MOVING = {
    "hmc": lambda pair, batch: posterior(pair, batch, num_chains=2, warmup=3),
    "sandwich": above_and_below,
}
WEIGHTED = {"impute": lambda pair, batch: imputed(pair, batch, "metropolis-within-gibbs")}
MORE_MOVING = {
    "anneal": lambda pair, batch: posterior(pair, batch, method="anneal", num_temperatures=3),
    "ais": annealed,
}
MORE_WEIGHTED = {
    "resample": lambda pair, batch: posterior(pair, batch, method="resample", num_proposals=40),
    "importance": lambda pair, batch: imputed(pair, batch, "importance"),
}
FREE = {
    "guide": lambda pair, batch: posterior(pair, batch, method="guide"),
    "pseudo-gibbs": lambda pair, batch: imputed(pair, batch, "pseudo-gibbs"),
}


def ask(case, question, moves, gaps=False, proposes=False, weighs=False):
    pair, batch = case.pair().eval(), case.batch()
    pair.remember(batch)
    refusal = REFUSED.get(case.model)
    if moves and case.discrete:
        refusal = DISCRETE
    if moves and case.guide == "PowerSpherical":
        refusal = ON_A_SPHERE
    if gaps and case.detail in ("autoregressive", "strings", "transformer"):
        refusal = NOT_FACTORISED
    if proposes and case.guide in ("Hamiltonian", "RiemannianHamiltonian"):
        refusal = r"auxiliary sites \['z_start', 'z_momentum'\], and does not tell the density"
    if weighs and case.guide == "VectorQuantised":
        refusal = "the guide draws one value alone of site 'z'"
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # so few draws are not to be trusted, and that is said
        if refusal is not None:
            with pytest.raises(ValueError, match=refusal):
                question(pair, batch)
            return
        assert all(bool(value.isfinite().all()) for value in question(pair, batch))


# each pair under one question, each question over a third of the pairs; the rest in the grid
DEAR = [*MOVING, *WEIGHTED]
TURNS = [
    pytest.param(
        *part.values,
        name,
        id=f"{part.id}-{name}",
        marks=[*part.marks, *[pytest.mark.grid] * ((number + turn) % len(DEAR) > 0)],
    )
    for number, part in enumerate(PARTS)
    for turn, name in enumerate(DEAR)
]


def test_every_question_and_every_pair_has_its_turn():
    chosen = [each.values for each in TURNS if not each.marks]
    assert {name for _, name in chosen} == set(DEAR)
    assert [case.id for case, _ in chosen] == [part.id for part in PARTS if not part.marks]


@pytest.mark.parametrize(("case", "name"), TURNS)
def test_an_answer_or_a_refusal(case, name):
    moves, gaps, weighs = name in MOVING, name == "impute", name in WEIGHTED
    ask(case, (MOVING | WEIGHTED)[name], moves=moves, gaps=gaps, proposes=weighs, weighs=weighs)


@pytest.mark.grid
@every_part
@pytest.mark.parametrize("name", [*MORE_MOVING, *MORE_WEIGHTED])
def test_an_answer_or_a_refusal_of_the_others(case, name):
    moves, gaps, weighs = name in MORE_MOVING, name == "importance", name in MORE_WEIGHTED
    ask(case, (MORE_MOVING | MORE_WEIGHTED)[name], moves=moves, gaps=gaps, weighs=weighs)


@pytest.mark.grid
@every_part
@pytest.mark.parametrize("name", FREE)
def test_what_asks_for_no_density_is_answered(case, name):
    pair, batch = case.pair().eval(), case.batch()
    pair.remember(batch)
    if name == "pseudo-gibbs" and case.detail in ("autoregressive", "strings", "transformer"):
        with pytest.raises(ValueError, match=NOT_FACTORISED):
            FREE[name](pair, batch)
        return
    assert all(bool(value.isfinite().all()) for value in FREE[name](pair, batch))
