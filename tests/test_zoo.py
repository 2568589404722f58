"""One contract over every pair of the zoo: questions, estimators, a run's folder, the captured step,
the GPU.
"""

from __future__ import annotations

import pyro
import pytest
import torch
from pyro.infer import RenyiELBO, Trace_ELBO, TraceEnum_ELBO, TraceMeanField_ELBO
from torch import nn

import ppl_vae as pv
from ppl_vae import estimators, guides, models, priors
from ppl_vae.core.sites import PairError
from ppl_vae.estimators.enumerated import EnumeratedELBO
from ppl_vae.testing import check_pair
from ppl_vae.testing.linter import check_estimator_for
from ppl_vae.train.objective import Objective
from tests.capture.helpers import assert_same_steps, sgd
from tests.zoo import BATCH, CASES, CONTRIBUTING, PARTS, split_of, with_table

every_case = pytest.mark.parametrize("case", CASES, ids=lambda case: case.id)
every_part = pytest.mark.parametrize("case", PARTS)

ESTIMATORS = [
    estimators.ELBO(2),
    estimators.MeanFieldELBO(),
    EnumeratedELBO(),
    estimators.IWAE(3),
    estimators.Renyi(0.5, 3),
    estimators.STL(2),
    estimators.DReG(2),
    estimators.PIWAE(2, 2),
    estimators.CIWAE(0.3, 2),
    estimators.TVO(4, 3),
    estimators.CUBO(2.0, 3),
    estimators.JVI(1, 3),
    estimators.SUMO(2, 10),
    estimators.VIMCO(3),
    estimators.ScoreFunction(2),
    estimators.DisARM(),
    estimators.REBAR(2),
    estimators.ReweightedWakeSleep(3),
    Trace_ELBO(num_particles=2, vectorize_particles=True, max_plate_nesting=1),
    TraceMeanField_ELBO(max_plate_nesting=1),
    RenyiELBO(alpha=0.5, num_particles=2, vectorize_particles=True, max_plate_nesting=1),
    TraceEnum_ELBO(max_plate_nesting=1),
]


def ready(case, dtype=torch.float32):
    """The pair in eval mode, as it is after a training, and a batch of its data."""
    pair, batch = case.pair(dtype).eval(), case.batch(dtype)
    pair.remember(batch)
    return pair, batch


def brightness(x):
    """A score of what is observed: of one tensor, or by site where there are several."""
    return (x["x"] if isinstance(x, dict) else x).flatten(1).sum(1)


@every_case
def test_the_pair_keeps_the_contract(case):
    pair, batch = ready(case)
    report = check_pair(pair, *batch, allow_global=True)
    assert report.observed_sites == {"x": case.shape, **dict(case.views)}
    assert case.site in report.latent_sites


@every_case
def test_all_questions(case):
    pair, batch = ready(case)
    half = BATCH // 2
    x0, x1 = ([each[part] for each in batch] for part in (slice(half), slice(half, None)))
    extra = {"like": tuple(x0)} if case.labels else {}

    code, again = pv.encode(pair, *batch, seed=0), pv.reconstruct(pair, *batch, seed=0)
    assert again.values["x"].shape == batch[0].shape
    torch.testing.assert_close(again.latents[case.site], code.latents[case.site])

    decoded = pv.decode(pair, again.latents, **({"like": batch} if case.labels else {}))
    if case.has_mean or case.detail in ("strings", "transformer"):  # which have a mode
        torch.testing.assert_close(decoded.means["x"], again.means["x"])
    else:  # the draw stands in its place
        assert torch.equal(decoded.means["x"], decoded.values["x"])

    path = pv.interpolate(pair, x0, x1, steps=3, site=case.site, seed=0)
    assert path.means["x"].shape == (3, half, *case.shape)
    assert path.means["x"].isfinite().all()
    if case.discrete:
        for ask, why in (
            (lambda: pv.traverse(pair, x0, case.site), "nothing between its values"),
            (lambda: pv.attribute(pair, x0, x1), "no direction to go"),
            (lambda: pv.optimise(pair, brightness, x0), "no latent site can move"),
        ):
            with pytest.raises(ValueError, match=why):
                ask()
    else:
        _moving_questions(case, pair, batch, x0, x1)

    if case.has_prior:
        drawn = pv.sample(pair, half, seed=0, **extra)
        assert drawn.values["x"].shape == (half, *case.shape)
        assert drawn.means["x"].isfinite().all()
    else:
        with pytest.raises((ValueError, NotImplementedError), match="prior"):
            pv.sample(pair, half)


def _moving_questions(case, pair, batch, x0, x1):
    """Those that move latents a little."""
    half = BATCH // 2
    moved = pv.traverse(pair, x0, case.site, values=[-0.5, 0.5], seed=0)
    assert moved.means["x"].shape[1:] == (2, half, *case.shape)
    assert moved.means["x"].isfinite().all()

    found = pv.attribute(pair, x0, x1)
    assert case.site in found.vectors
    if case.detail == "Sphere":  # on which there are no straight lines
        with pytest.raises(ValueError, match=r"its codes are rows of length 1, .*method='spherical'"):
            found.apply(pair, x0)
        with pytest.raises(ValueError, match=r"site 'z': the values of its .*no line of numbers"):
            pv.optimise(pair, brightness, x0)
    else:
        along = found.apply(pair, x0, strength=(-0.1, 0.0, 0.1), seed=0)
        assert along.means["x"].shape == (3, half, *case.shape)
        codes, vector = along.latents[case.site], found.vectors[case.site]
        torch.testing.assert_close(
            10 * (codes[2] - codes[1]), vector.expand(codes[1].shape), rtol=1e-3, atol=1e-5
        )
        if not case.has_density:
            with pytest.raises(ValueError, match="site 'z': Denoised has no density"):
                pv.optimise(pair, brightness, x0, like=batch, steps=3)
        elif case.has_mean:
            better = pv.optimise(pair, brightness, x0, like=batch, steps=3)
            assert better.draws.means["x"].shape == (half, *case.shape)
            assert better.objective.isfinite().all()
        else:
            with pytest.raises(ValueError, match=r"site 'x': its \w+ has no mean to be scored"):
                pv.optimise(pair, brightness, x0, steps=3)


@every_part
def test_every_valid_estimator_gives_finite_bounds_and_gradients(case):
    pair, batch = ready(case)
    valid = []
    for estimator in ESTIMATORS:
        if isinstance(estimator, TraceEnum_ELBO) and case.detail != "summed by Pyro":
            continue  # valid, but Pyro warns that there is nothing to enumerate
        try:
            check_estimator_for(pair, batch, estimator)
        except PairError:
            continue
        valid.append(estimator)
        pair.zero_grad()
        loss, _ = Objective(pair, estimator)(*batch)
        if loss.requires_grad:  # Pyro's RenyiELBO has been backward already
            loss.backward()
        assert loss.isfinite(), estimator
        for program in (pair.model, pair.guide):
            gradients = [p.grad for p in program.parameters() if p.grad is not None]
            assert all(gradient.isfinite().all() for gradient in gradients), estimator
    assert type(case.estimator) in {type(estimator) for estimator in valid}


@every_part
def test_saved_and_loaded(case, tmp_path):
    pair, (x, *rest) = ready(case)
    train = split_of(case, (x, *rest))
    pv.fit(
        pair,
        case.estimator,
        train,
        epochs=1,
        batch_size=BATCH,
        run_dir=tmp_path,
        progress=False,
        device="cpu",
        capture=False,
    )
    loaded = pv.load(tmp_path)
    assert loaded.state_dict().keys() == pair.state_dict().keys()
    assert all(torch.equal(a, b) for a, b in zip(loaded.state_dict().values(), pair.state_dict().values()))
    for before, after in zip(
        pv.encode(pair, x, *rest, seed=1).latents.values(),
        pv.encode(loaded, x, *rest, seed=1).latents.values(),
    ):
        assert torch.equal(before, after)
    assert len(list(loaded.parameters())) == len(list(pair.parameters()))


@every_part
def test_the_captured_step_equals_the_eager_one(case):
    pair, batch = case.pair(torch.float64), case.batch(torch.float64)
    assert_same_steps(pair, case.estimator, [batch], sgd, steps=2)


@pytest.mark.cuda
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no NVIDIA GPU")
@every_case
def test_on_a_gpu(case, tmp_path):
    pair, (x, *rest) = ready(case)
    train = split_of(case, (x, *rest))
    run = pv.fit(
        pair,
        case.estimator,
        train,
        epochs=2,
        batch_size=BATCH,
        progress=False,
        device="cuda",
        capture=True,
    )
    assert run.history["train_bound"].notna().all()
    assert pv.reconstruct(pair, x, *rest, seed=0).mean.device.type == "cuda"


def test_parameters_that_both_programs_have_stand_once_in_pyros_store():
    pair, batch = ready(next(case for case in CASES if case.id == "VAE-MeanField-VampPrior"))
    model, guide = pair.pyro()
    model(*batch)
    guide(*batch)
    assert len(pyro.get_param_store()) == len(list(pair.parameters()))
    pair.forget_pyro()
    assert not list(pyro.get_param_store())


def test_pyros_closed_form_is_refused_where_the_guide_draws_in_another_order():
    cases = {case.guide: case for case in CASES if case.model == "LadderVAE" and case.detail == "dense"}
    pair, batch = ready(cases["BottomUp"])
    with pytest.raises(PairError, match=r"draws the sites \['z2', 'z1'\] in another order"):
        check_estimator_for(pair, batch, TraceMeanField_ELBO())
    pair, batch = ready(cases["TopDown"])
    check_estimator_for(pair, batch, TraceMeanField_ELBO())


def test_every_model_guide_and_prior_is_covered():
    def named(package):
        return {
            name
            for name in package.__all__
            if isinstance(getattr(package, name), type) and issubclass(getattr(package, name), nn.Module)
        }

    alone = [case for case in CASES if not case.combined]
    assert {case.model for case in alone} == named(models)
    assert {case.guide for case in CASES} == named(guides)
    families = [
        {getattr(guides, name).__module__ for name in names}
        for names in ({case.guide for case in alone}, named(guides))
    ]
    dear = {"ppl_vae.guides.riemannian", "ppl_vae.guides.mixed_experts"}  # whose simpler kin stand alone
    assert families[0] == families[1] - dear  # else one family a file
    others = {"", "table", "autoregressive", "strings", "transformer"}
    assert {case.detail for case in alone if case.model == "VAE"} - others == named(priors)


def test_ids_are_distinct():
    assert len({case.id for case in CASES}) == len(CASES)


def test_the_table_is_what_is_covered():
    text = CONTRIBUTING.read_text(encoding="utf-8")
    assert with_table(text) == text, "CONTRIBUTING's table is stale: run `python -m tests.zoo`"
