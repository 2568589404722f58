from __future__ import annotations

import math

import numpy as np
import pyro.infer
import pytest
import torch
from matplotlib import pyplot as plt

from ppl_vae import Pair, PairError, comparison, data, estimators, evaluate, guides, models, nets
from ppl_vae.comparison import AtPoint
from ppl_vae.comparison.reference import evidence_of, unbiased_twin
from ppl_vae.estimators import IWAE, MIWAE, PIWAE, STL, VIMCO, DisARM, DReG, MeanFieldELBO, Renyi
from tests.conftest import SIGMAS
from tests.oracle import make_pair
from tests.programs import (
    BernoulliGuide,
    BernoulliModel,
    ChainGuide,
    ChainModel,
    GlobalMeanGuide,
    GlobalMeanModel,
)

QUIET = {"progress": False}


@pytest.fixture(scope="module")
def found():
    """One comparison that many tests look at: a pair beside its optimum."""
    torch.manual_seed(0)
    dtype = torch.get_default_dtype()
    torch.set_default_dtype(torch.float64)
    try:
        pair, x = make_pair(perturb=0.05), torch.randn(4, 5)
        given = [estimators.ELBO, IWAE, DReG, STL, MIWAE(2, 4)]
        return pair, x, comparison.at_point(pair, given, x, num_particles=[1, 4, 16], draws=600, **QUIET)
    finally:
        torch.set_default_dtype(dtype)


def cell(result, name, size, part=None):
    chosen = result.dataset.sel(estimator=name, K=size)
    return chosen if part is None else chosen.sel(part=part)


def test_bounds_lie_below_the_exact_evidence_and_their_gap_is_to_it(found):
    pair, x, result = found
    evidence = pair.model.log_evidence(x).mean().item()
    assert result.dataset.attrs["evidence"] == pytest.approx(evidence)
    assert result.dataset.attrs["evidence_source"] == "exact"
    for name in ("ELBO", "IWAE", "DReG", "STL"):
        one = cell(result, name, 4)
        assert float(one.gap) == pytest.approx(evidence - float(one.bound))
        assert float(one.gap) > SIGMAS * float(one.gap_standard_error)


def test_the_bound_is_the_expectation_of_the_estimator(found):
    pair, x, result = found
    with torch.no_grad():
        values = torch.stack(
            [-IWAE(4).differentiable_loss(pair.model, pair.guide, x) / 4 for _ in range(800)]
        )
    one = cell(result, "IWAE", 4)
    error = math.hypot(float(one.bound_standard_error), values.std().item() / math.sqrt(800))
    assert float(one.bound) == pytest.approx(values.mean().item(), abs=SIGMAS * error)


def test_estimators_of_the_same_bound_have_it_to_the_last_draw(found):
    result = found[2]
    assert float(cell(result, "IWAE", 16).bound) == pytest.approx(
        float(cell(result, "DReG", 16).bound), abs=1e-9
    )


def test_unbiased_gradients_have_no_bias_and_stl_has_one(found):
    result = found[2]
    for name in ("ELBO", "IWAE", "DReG", "STL"):
        for size in (1, 4, 16):
            for part in ("model", "guide"):
                sigmas = float(cell(result, name, size, part).bias_sigmas)
                if name == "STL" and part == "guide" and size > 1:
                    assert sigmas > SIGMAS
                else:
                    assert sigmas < SIGMAS, (name, size, part)


def test_the_models_gradient_comes_nearer_to_that_of_the_evidence_as_k_grows(found):
    result = found[2]
    distance = result.dataset.distance.sel(estimator="IWAE", part="model", K=[1, 4, 16]).values
    assert float(cell(result, "IWAE", 1, "model").distance_sigmas) > SIGMAS
    assert distance[1] < 0.7 * distance[0]
    assert distance[2] < 0.7 * distance[1]
    assert np.isnan(result.dataset.distance.sel(part="guide")).all()


def test_the_elbos_variance_falls_as_one_over_k_and_slopes_say_so(found):
    result = found[2]
    for part in ("model", "guide"):
        fitted = result.slope("ELBO", part, "variance")
        assert fitted.slope == pytest.approx(-1.0, abs=SIGMAS * fitted.standard_error)
    fitted = result.slope("ELBO", "model", "snr")
    assert fitted.slope == pytest.approx(0.5, abs=SIGMAS * fitted.standard_error)
    table = result.slopes.set_index(["quantity", "part", "estimator"])
    assert table.loc[("snr", "model", "ELBO"), "slope"] == fitted.slope


def test_pathwise_gradients_of_the_guide_have_less_noise(found):
    result = found[2]
    variance = result.dataset.variance.sel(part="guide", K=4)
    assert float(variance.sel(estimator="DReG")) < 0.5 * float(variance.sel(estimator="IWAE"))


def test_one_that_keeps_its_own_k_stands_at_that(found):
    result = found[2]
    known = np.isfinite(result.dataset.bound.sel(estimator="MIWAE(2, 4)"))
    assert result.dataset.K.values[known].tolist() == [8]
    expected = result.dataset.bound.sel(estimator="IWAE", K=4)
    error = 2 * float(expected.K * 0 + cell(result, "IWAE", 4).bound_standard_error)
    assert float(cell(result, "MIWAE(2, 4)", 8).bound) == pytest.approx(float(expected), abs=SIGMAS * error)


def test_cost_and_table(found):
    table = found[2].table
    assert len(table) == 4 * 3 + 1
    assert (table["seconds"] > 0).all()
    memory = table[table["estimator"] == "IWAE"]["memory"].tolist()
    assert memory == sorted(memory)
    assert memory[-1] > 5 * memory[0]
    assert {"snr_model", "snr_guide", "bias_guide", "distance_model"} <= set(table)
    assert "distance_guide" not in table
    assert not [name for name in table if table[name].isna().all()]


def test_str_says_the_evidence_and_the_bounds(found):
    text = str(found[2])
    assert "nats, exact" in text
    assert "IWAE" in text


def test_saved_and_loaded_it_is_the_same(found, tmp_path):
    result = found[2]
    again = AtPoint.load(result.save(tmp_path / "point.nc"))
    assert again.dataset.equals(result.dataset)
    assert again.references == result.references
    assert "DReG(num_particles=4, alpha=0.0)" in again.references["IWAE, K = 4"]
    (tmp_path / "bad.nc").write_bytes(b"nothing")
    with pytest.raises(ValueError, match="cannot be read"):
        AtPoint.load(tmp_path / "bad.nc")
    with pytest.raises(FileNotFoundError):
        AtPoint.load(tmp_path / "none.nc")
    result.dataset.drop_vars("variance").to_netcdf(tmp_path / "other.nc", engine="h5netcdf")
    with pytest.raises(ValueError, match="lacks \\['variance'\\]"):
        AtPoint.load(tmp_path / "other.nc")


def test_plots(found):
    result = found[2]
    ax = result.plot_bounds()
    labels = [text.get_text() for text in ax.get_legend().get_texts()]
    assert {"IWAE", "DReG", "log p(x), exact"} <= set(labels)
    lines = [line for line in ax.lines if np.allclose(line.get_ydata(), result.dataset.attrs["evidence"])]
    assert lines
    assert ax.get_xscale() == "log"
    _, own = plt.subplots()
    ax = result.plot_snr("guide", ax=own)
    assert ax is own
    assert (ax.get_xscale(), ax.get_yscale()) == ("log", "log")
    assert any("K^{" in text.get_text() for text in ax.get_legend().get_texts())
    with pytest.raises(ValueError, match="part must be one of"):
        result.plot_snr("prior")
    plt.close("all")


def test_the_same_seed_gives_the_same_result_and_leaves_random_numbers_alone():
    pair, x = make_pair(perturb=0.1), torch.randn(3, 5)
    state = torch.get_rng_state()
    first, again, other = (
        comparison.at_point(pair, [IWAE], x, num_particles=[2], draws=20, seed=seed, **QUIET).table
        for seed in (1, 1, 2)
    )
    assert torch.equal(torch.get_rng_state(), state)
    same = [name for name in first if name not in ("seconds", "memory")]
    assert first[same].equals(again[same])
    assert float(first["bound"][0]) != float(other["bound"][0])


def test_without_an_exact_evidence_it_is_estimated(double):
    pair, x = Pair(ChainModel(), ChainGuide()), torch.randn(3, 2)
    evidence = evidence_of(pair, (x,), 4000, 50, 0)
    long = evaluate.log_likelihood(pair, x, 20_000, seed=5, progress=False)
    error = math.hypot(evidence.standard_error, long.monte_carlo_standard_error)
    assert evidence.value == pytest.approx(long.value, abs=SIGMAS * error)
    assert evidence.standard_error > 0
    assert "importance sampling, K = 4,000" in evidence.source
    result = comparison.at_point(
        pair, [IWAE], x, num_particles=[1, 8], draws=200, evidence_particles=2000, **QUIET
    )
    assert "IWAE" in result.dataset.attrs["distance_source"]
    ax = result.plot_bounds()
    assert ax.patches  # a band of two standard errors
    plt.close("all")


def test_the_exact_gradient_of_the_evidence_is_that_of_log_evidence(double):
    pair, x = make_pair(perturb=0.1), torch.randn(3, 5)
    evidence = evidence_of(pair, (x,), 10, 10, 0)
    names = sorted(name for name, _ in pair.named_parameters() if name.startswith("model."))
    assert evidence.gradient_source == "exact"
    assert evidence.moments is None
    assert len(evidence.gradient) == sum(dict(pair.named_parameters())[name].numel() for name in names)


def test_discrete_pairs_and_pyros_own_estimators_stand_in_the_table():
    pair, x = Pair(BernoulliModel(), BernoulliGuide()), torch.randn(4)
    given = {"VIMCO": VIMCO, "DisARM": lambda K: DisARM(max(1, K // 2)), "Trace_ELBO": pyro.infer.Trace_ELBO}
    result = comparison.at_point(
        pair, given, x, num_particles=[1, 2], draws=40, reference_draws=40, evidence_particles=500, **QUIET
    )
    assert np.isnan(result.dataset.bound.sel(estimator="VIMCO", K=1))  # there is no VIMCO of one particle
    assert np.isfinite(result.dataset.bound.sel(estimator="VIMCO", K=2))
    assert list(result.loops) == ["Trace_ELBO"]
    assert (result.dataset.variance.sel(estimator="Trace_ELBO") > 0).all()


@pytest.mark.parametrize(
    "estimator",
    [
        pyro.infer.TraceMeanField_ELBO, pyro.infer.TraceGraph_ELBO, pyro.infer.TraceEnum_ELBO,
        pyro.infer.TraceTailAdaptive_ELBO, pyro.infer.ReweightedWakeSleep, pyro.infer.RenyiELBO,
    ],
)  # fmt: skip
def test_each_of_pyros_estimators_is_measured(estimator):
    pair, x = make_pair(perturb=0.1), torch.randn(3, 5)
    result = comparison.at_point(pair, [estimator], x, num_particles=[2], draws=20, **QUIET)
    assert (result.dataset.variance > 0).all()
    # TraceTailAdaptive_ELBO has gradients alone: the ELBO at its draws stands in for a bound
    assert np.isfinite(result.dataset.bound).all()


def test_latents_that_all_data_share_have_bounds_but_no_evidence():
    pair, x = Pair(GlobalMeanModel(4), GlobalMeanGuide(4)), torch.randn(4)
    result = comparison.at_point(
        pair, [estimators.ELBO, MeanFieldELBO], x, num_particles=[1, 2], draws=40, **QUIET
    )
    assert np.isfinite(result.dataset.bound).all()
    assert np.isnan(result.dataset.gap).all()
    assert (result.dataset.bias_sigmas.sel(part="guide") < SIGMAS).all()
    assert "theta outside the plate" in result.dataset.attrs["evidence_source"]
    assert "log p(x)" not in [text.get_text() for text in result.plot_bounds().get_legend().get_texts()]
    assert "nan" in str(result)
    plt.close("all")


def test_the_linter_is_asked_first():
    pair = Pair(BernoulliModel(), BernoulliGuide())
    with pytest.raises(PairError, match="not reparameterised"):
        comparison.at_point(pair, [DReG], torch.randn(4), num_particles=[2], draws=10, **QUIET)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"num_particles": []}, "num_particles must be positive"),
        ({"num_particles": [0, 1]}, "num_particles must be positive"),
        ({"draws": 3}, "draws must be a whole number >= 10"),
        ({"reference_draws": 3}, "reference_draws must be"),
    ],
)
def test_mistakes(options, message):
    with pytest.raises(ValueError, match=message):
        comparison.at_point(make_pair(), [IWAE], torch.randn(3, 5), **{"draws": 10, **options}, **QUIET)


def test_of_a_split_the_first_rows_are_taken():
    split = data.Split.from_tensor(torch.randn(20, 5))
    result = comparison.at_point(
        make_pair(), [IWAE], split, num_particles=[1], draws=10, reference_draws=0, num_data=6, **QUIET
    )
    assert result.dataset.attrs["num_data"] == 6
    assert "bias_guide" not in result.table


@pytest.mark.parametrize(
    ("estimator", "twin"),
    [
        (IWAE(3), DReG(3)),
        (STL(3), DReG(3)),
        (PIWAE(2, 2), DReG(4)),
        (estimators.ELBO(3), estimators.ELBO(3)),
        (MeanFieldELBO(3), MeanFieldELBO(3)),
        (pyro.infer.RenyiELBO(alpha=0.3, num_particles=3), Renyi(0.3, 3)),
        (pyro.infer.Trace_ELBO(num_particles=3), estimators.ELBO(3)),
    ],
)
def test_references_are_unbiased_estimators_of_the_same_bound(estimator, twin):
    encoder = nets.MLPEncoder((5,), 2)
    pair, x = Pair(models.LinearGaussian(2, 5), guides.MeanField(encoder)), torch.randn(3, 5)
    assert repr(unbiased_twin(pair, estimator, (x,))) == repr(twin)


def test_a_bound_of_its_own_gets_the_plain_gradient():
    pair, x = make_pair(perturb=0.3), torch.randn(3, 5)
    twin = unbiased_twin(pair, Renyi(0.5, 3), (x,))
    assert isinstance(twin, Renyi)
    assert not twin.separates
    assert unbiased_twin(pair, pyro.infer.TraceTailAdaptive_ELBO(num_particles=3), (x,)) is None
