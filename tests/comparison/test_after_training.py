from __future__ import annotations

import json
import math

import numpy as np
import pytest
import torch
from matplotlib import pyplot as plt
from pyro.infer import Trace_ELBO

import ppl_vae as pv
from ppl_vae import Pair, PairError, RunError, comparison, data, estimators, evaluate, guides, models, nets
from ppl_vae.comparison import AfterTraining, Comparison, compare
from ppl_vae.comparison import job as job_module
from ppl_vae.comparison.job import initial_pair
from ppl_vae.comparison.prepare import make_jobs
from ppl_vae.comparison.training_result import _statistics
from ppl_vae.estimators import IWAE, DReG
from tests.programs import BernoulliGuide, BernoulliModel, GlobalMeanGuide, GlobalMeanModel

LEARN = {"learning_rate": 0.02, "batch_size": 20, "device": "cpu"}
QUICK = {"epochs": 3, "seeds": [0, 1], "judge_particles": 40, "progress": False, **LEARN}


def make_small_pair(seed: int) -> Pair:
    return Pair(models.LinearGaussian(2, 4), guides.MeanField(nets.MLPEncoder((4,), 2, hidden=())))


def make_set() -> data.DataSet:
    noise = torch.Generator().manual_seed(3)
    x = torch.randn(120, 2, generator=noise) @ torch.randn(2, 4, generator=noise)
    x = x + 0.3 * torch.randn(120, 4, generator=noise)
    parts = [data.Split.from_tensor(part) for part in x.split([60, 30, 30])]
    return data.DataSet("toy", *parts)


GIVEN = [estimators.ELBO(), IWAE(5)]


@pytest.fixture(scope="module")
def found(tmp_path_factory):
    folder = tmp_path_factory.mktemp("compared")
    return folder, comparison.after_training(make_small_pair, GIVEN, make_set(), run_dir=folder, **QUICK)


def test_each_run_is_a_training_by_fit_from_the_seed_judged_by_evaluate(found):
    dataset, result = make_set(), found[1]
    for name, estimator in zip(("ELBO(1)", "IWAE(5)"), GIVEN):
        pair = initial_pair(make_small_pair, 1)
        run = pv.fit(pair, estimator, dataset, epochs=3, seed=1, progress=False, **LEARN)
        expected = evaluate.log_likelihood(pair, dataset.test, 40, seed=0, progress=False)
        one = result.dataset.sel(estimator=name, seed=1)
        np.testing.assert_allclose(one.log_likelihood_per_datum, expected.per_datum, rtol=1e-5)
        assert float(one.log_likelihood) == pytest.approx(expected.value, rel=1e-5)
        np.testing.assert_allclose(one.valid_elbo, run.history["valid_elbo"], rtol=1e-5)
        np.testing.assert_allclose(one.step, run.history["step"])
        bounds = evaluate.bounds(pair, dataset.test, seed=0)
        assert float(one.elbo) == pytest.approx(bounds.elbo, rel=1e-5)
        assert float(one.kl.sel(site="z")) == pytest.approx(bounds.kl["z"], rel=1e-5)
        assert (np.diff(one.seconds) > 0).all()
        assert float(one.seconds[-1]) == pytest.approx(float(one.seconds_total))


def test_runs_of_a_seed_start_from_the_same_weights_and_seeds_differ():
    first, again, other = (initial_pair(make_small_pair, seed).state_dict() for seed in (4, 4, 5))
    assert all(torch.equal(first[name], again[name]) for name in first)
    assert not all(torch.equal(first[name], other[name]) for name in first)


def test_one_particle_of_pyros_elbo_trains_as_ours_does():
    result = comparison.after_training(
        make_small_pair, [estimators.ELBO(), Trace_ELBO()], make_set(), **{**QUICK, "epochs": 1}
    )
    scores = result.dataset.log_likelihood_per_datum
    np.testing.assert_allclose(scores[0], scores[1], rtol=1e-5)
    assert result.table["difference"][1] == pytest.approx(0.0, abs=1e-5)


def test_the_table_has_scores_errors_and_paired_differences(found):
    table = found[1].table
    per_datum = found[1].dataset.log_likelihood_per_datum.values
    assert table["nll"].tolist() == pytest.approx((-per_datum.mean((1, 2))).tolist())
    apart = per_datum[1] - per_datum[0]
    across_data = apart.mean(0).std(ddof=1) / math.sqrt(30)
    across_seeds = apart.mean(1).std(ddof=1) / math.sqrt(2)
    error = math.hypot(across_data, across_seeds)
    assert table["difference"][1] == pytest.approx(apart.mean())
    assert table["difference_standard_error"][1] == pytest.approx(error)
    assert table["sigmas"][1] == pytest.approx(apart.mean() / error)
    first, second = table["estimator"][:2]
    pairwise = found[1].difference(second, first)
    assert pairwise == pytest.approx((table["difference"][1], table["difference_standard_error"][1]))
    assert pairwise.sigmas == pytest.approx(table["sigmas"][1])
    assert found[1].difference(first, second).value == pytest.approx(-pairwise.value)
    assert table["active_z"].between(0, 2).all()
    assert table["k_hat_high"].between(0, 1).all()
    assert table["seeds"].tolist() == [2, 2]
    assert table["epochs"].tolist() == [3, 3]


def test_standard_errors_cover_over_data_and_seeds():
    """Scores = datum effect + seed effect + noise: the paired difference's error is its spread."""
    generator = np.random.default_rng(0)
    found = []
    for _ in range(300):
        common = generator.normal(size=(1, 1, 40)) * 5 + generator.normal(size=(1, 4, 1))
        own = generator.normal(size=(2, 1, 40)) * 0.5 + generator.normal(size=(2, 4, 1)) * 0.3
        found.append(_statistics(common + own + 0.2 * generator.normal(size=(2, 4, 40))))
    difference = np.array([each["difference"][1][1] for each in found])
    error = np.array([each["difference_standard_error"][1][1] for each in found])
    assert abs(difference.mean()) < 4.5 * difference.std() / math.sqrt(300)
    assert 0.85 < math.sqrt((error**2).mean()) / difference.std() < 1.2
    assert difference.std() < 0.5  # what both share, five nats by datum, has cancelled


def test_the_same_call_again_repeats_nothing(found, monkeypatch):
    folder, result = found
    monkeypatch.setattr(job_module, "fit", lambda *a, **k: pytest.fail("a finished run was trained again"))
    options = {**QUICK, "judge_particles": np.int64(40), "epochs": np.int64(3)}  # the same in NumPy's numbers
    again = comparison.after_training(make_small_pair, GIVEN, make_set(), run_dir=folder, **options)
    assert again.dataset.equals(result.dataset)


def test_new_seeds_and_estimators_are_added_to_what_is_there(found, tmp_path, monkeypatch):
    trained = []
    real = job_module.fit
    monkeypatch.setattr(
        job_module, "fit", lambda *a, **k: (trained.append((repr(a[1]), k["seed"])), real(*a, **k))[1]
    )
    some = {**QUICK, "seeds": [0], "epochs": 1, "run_dir": tmp_path}
    comparison.after_training(make_small_pair, [IWAE(2)], make_set(), **some)
    comparison.after_training(make_small_pair, [IWAE(2), DReG(2)], make_set(), **{**some, "seeds": [0, 1]})
    assert len(trained) == 4
    assert len(set(trained)) == 4


def test_other_judging_judges_again_without_training(tmp_path, monkeypatch):
    options = {**QUICK, "seeds": [0], "run_dir": tmp_path}
    first = comparison.after_training(make_small_pair, [IWAE(2)], make_set(), **options)
    weights = (tmp_path / "IWAE-2" / "seed-0" / "weights.safetensors").read_bytes()
    again = comparison.after_training(
        make_small_pair, [IWAE(2)], make_set(), **{**options, "judge_particles": 80}
    )
    assert again.dataset.attrs["judge_particles"] == 80
    assert (again.dataset.log_likelihood != first.dataset.log_likelihood).all()
    assert (tmp_path / "IWAE-2" / "seed-0" / "weights.safetensors").read_bytes() == weights
    np.testing.assert_array_equal(again.dataset.train_elbo, first.dataset.train_elbo)


class Interruptible(IWAE):
    """Interrupted, as by Ctrl-C, when `left` steps are done; None lets it go on."""

    left: int | None = None

    def surrogate(self, particles):
        if type(self).left is not None:
            if type(self).left == 0:
                raise KeyboardInterrupt
            type(self).left -= 1
        return super().surrogate(particles)


def test_a_half_run_continues_where_it_stopped(tmp_path, monkeypatch):
    options = {**QUICK, "seeds": [0]}
    whole = comparison.after_training(make_small_pair, [Interruptible(3)], make_set(), **options)
    monkeypatch.setattr(Interruptible, "left", 5)  # in the second of three epochs
    with pytest.raises(KeyboardInterrupt, match="Interruptible\\(3\\), seed 0"):
        comparison.after_training(
            make_small_pair, [Interruptible(3)], make_set(), run_dir=tmp_path, **options
        )
    assert not (tmp_path / "Interruptible-3" / "seed-0" / "score.npz").exists()
    monkeypatch.setattr(Interruptible, "left", 6)  # two epochs' steps are what is missing
    resumed = comparison.after_training(
        make_small_pair, [Interruptible(3)], make_set(), run_dir=tmp_path, **options
    )
    assert Interruptible.left == 0
    for name in ("log_likelihood_per_datum", "train_elbo", "valid_elbo", "step"):
        np.testing.assert_array_equal(resumed.dataset[name], whole.dataset[name])


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"learning_rate": 0.5}, "learning_rate was '0.02', is '0.5'"),
        ({"estimators": {"IWAE(2)": IWAE(3)}}, "estimator was 'IWAE\\(2\\)', is 'IWAE\\(3\\)'"),
        ({"make_pair": lambda seed: Pair(models.LinearGaussian(1, 4), make_small_pair(0).guide)}, "pair was"),
    ],
)
def test_a_folder_of_another_comparison_is_refused(tmp_path, change, message):
    options = {
        "make_pair": make_small_pair, "estimators": [IWAE(2)], "data": make_set(), "run_dir": tmp_path,
        **QUICK, "seeds": [0], "epochs": 1,
    }  # fmt: skip
    comparison.after_training(**options)
    with pytest.raises(RunError, match=message):
        comparison.after_training(**{**options, **change, "check": False})


def test_damaged_files_are_named(tmp_path):
    options = {**QUICK, "seeds": [0], "epochs": 1, "run_dir": tmp_path}
    comparison.after_training(make_small_pair, [IWAE(2)], make_set(), **options)
    folder = tmp_path / "IWAE-2" / "seed-0"
    (folder / "score.npz").write_bytes(b"PK")
    with pytest.raises(RunError, match=r"score\.npz is damaged"):
        comparison.after_training(make_small_pair, [IWAE(2)], make_set(), **options)
    (folder / "job.json").write_text("{")
    with pytest.raises(RunError, match=r"job\.json is damaged"):
        comparison.after_training(make_small_pair, [IWAE(2)], make_set(), **options)


def test_a_budget_of_seconds_is_spent():
    result = comparison.after_training(
        make_small_pair, GIVEN, make_set(), **{**QUICK, "epochs": None, "seconds": 0.15, "seeds": [0]}
    )
    # that it is not overspent depends on the machine's load, and so is not for a test
    assert (result.dataset.seconds_total.values >= 0.15).all()
    assert np.isfinite(result.dataset.seconds.values).any(-1).all()


class Breaks(IWAE):
    """Its bound is NaN from the second step on."""

    def __init__(self) -> None:
        super().__init__(2)
        self.steps = 0

    def bound(self, particles):
        self.steps += 1
        return super().bound(particles) * (float("nan") if self.steps > 12 else 1.0)


def test_a_run_that_fails_is_reported_and_the_others_are_judged():
    result = comparison.after_training(
        make_small_pair, {"good": IWAE(2), "bad": Breaks()}, make_set(), **{**QUICK, "seeds": [0]}
    )
    assert "training stopped" in result.failures["bad, seed 0"]
    assert math.isnan(result.table["nll"][1])
    assert result.table["seeds"].tolist() == [1, 0]
    assert math.isfinite(result.table["nll"][0])
    assert "failed: bad, seed 0" in str(result)
    assert "one seed: the errors are those over the data" in str(result)
    result.plot_scores()
    plt.close("all")


def test_processes_give_what_one_process_gives(found, tmp_path):
    parallel = comparison.after_training(
        make_small_pair, GIVEN, make_set(), run_dir=tmp_path, n_jobs=2, **QUICK
    )
    for name in ("log_likelihood_per_datum", "train_elbo", "kl", "active_units"):
        np.testing.assert_allclose(parallel.dataset[name], found[1].dataset[name], rtol=1e-4, atol=1e-6)


def test_a_local_dask_cluster_runs_the_jobs(found, tmp_path):
    distributed = pytest.importorskip("distributed")
    import joblib

    with (
        distributed.Client(processes=False, n_workers=1, threads_per_worker=1, dashboard_address=None),
        joblib.parallel_config(backend="dask"),
    ):
        result = comparison.after_training(
            make_small_pair, GIVEN, make_set(), run_dir=tmp_path, n_jobs=-1, **QUICK
        )
    np.testing.assert_allclose(
        result.dataset.log_likelihood_per_datum, found[1].dataset.log_likelihood_per_datum, rtol=1e-4
    )


def test_saved_and_loaded_it_is_the_same(found, tmp_path):
    result = found[1]
    again = AfterTraining.load(result.save(tmp_path / "trained.nc"))
    assert again.dataset.equals(result.dataset)
    assert again.table.equals(result.table)
    assert json.loads(again.dataset.attrs["options"])["learning_rate"] == "0.02"


def test_a_flipped_bit_of_a_saved_result_is_seen_before_it_is_read(found, tmp_path):
    path = found[1].save(tmp_path / "result.nc")
    content = path.read_bytes()
    for place in range(0, len(content) - 80, len(content) // 40):
        path.write_bytes(content[:place] + bytes([content[place] ^ 16]) + content[place + 1 :])
        with pytest.raises(ValueError, match="does not have the checksum at its end"):
            AfterTraining.load(path)
    path.write_bytes(content)
    assert AfterTraining.load(path).dataset.equals(found[1].dataset)


def test_plots(found):
    result = found[1]
    for against, label in (("step", "gradient step"), ("seconds", "seconds of training")):
        ax = result.plot_curves(against)
        assert ax.get_xlabel() == label
        assert [text.get_text() for text in ax.get_legend().get_texts()] == ["ELBO(1)", "IWAE(5)"]
    ax = result.plot_scores()
    order = [text.get_text().removesuffix(" !") for text in ax.get_yticklabels()]
    assert order == result.table.sort_values("nll")["estimator"].tolist()
    assert ax.get_ylim()[0] > ax.get_ylim()[1]  # the best at the top
    with pytest.raises(ValueError, match="against must be"):
        result.plot_curves("epochs")
    with pytest.raises(ValueError, match="no measure 'bound'"):
        result.plot_curves(measure="bound")
    plt.close("all")


def test_str_is_a_table(found):
    text = str(found[1])
    assert "3 epochs each, 2 seeds; judged on 30 data with K = 40" in text
    assert "better than ELBO(1)" in text


def test_dynamic_data_is_binarised_once_for_all_runs():
    x = torch.rand(30, 4)
    dynamic = data.Split(data.rows.ResidentRows(x), dynamic=True)
    options = {
        "epochs": 1,
        "seconds": None,
        "seeds": [0],
        "judge_particles": 10,
        "judge_seed": 2,
        "run_dir": "x",
    }
    jobs = make_jobs(make_small_pair, GIVEN, x, judge_on=dynamic, **options)
    (bits,) = jobs[0].judging.data
    assert ((bits == 0) | (bits == 1)).all()
    assert jobs[1].judging is jobs[0].judging
    again = make_jobs(make_small_pair, GIVEN, x, judge_on=dynamic, **options)[0].judging.data
    assert torch.equal(bits, again[0])


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        ({"epochs": None}, ValueError, "give one budget"),
        ({"seconds": 3.0}, ValueError, "give one budget"),
        (
            {"epochs": None, "seconds": 1.0, "schedule": "cosine"},
            ValueError,
            "schedule='cosine' needs to know",
        ),
        ({"epochs": None, "seconds": -1.0}, ValueError, "seconds must be positive"),
        ({"seeds": []}, ValueError, "seeds must be different"),
        ({"seeds": [1, 1]}, ValueError, "seeds must be different"),
        ({"data": torch.zeros(9, 4)}, ValueError, "judge_on"),
        ({"seed": 3}, ValueError, r"\['seed'\] cannot be given"),
        ({"make_pair": lambda seed: 3}, TypeError, "make_pair\\(seed\\) must return"),
        ({"estimators": {"a b": IWAE(2), "a-b": IWAE(3)}}, ValueError, "would share folders"),
    ],
)
def test_mistakes(change, error, message):
    options = {"make_pair": make_small_pair, "estimators": GIVEN, "data": make_set(), **QUICK, **change}
    with pytest.raises(error, match=message):
        comparison.after_training(**options)


def test_the_linter_is_asked_before_anything_is_trained(tmp_path):
    with pytest.raises(PairError, match="not reparameterised"):
        comparison.after_training(
            lambda seed: Pair(BernoulliModel(), BernoulliGuide()), [DReG(num_particles=3)],
            torch.randn(20, 1), judge_on=torch.randn(5, 1), run_dir=tmp_path, **QUICK,
        )  # fmt: skip
    assert not list(tmp_path.iterdir())


def test_latents_that_all_data_share_cannot_be_judged_and_nothing_is_trained(tmp_path):
    x = torch.randn(20)
    with pytest.raises(PairError, match=r"\['theta'\] outside the plate 'data'"):
        comparison.after_training(
            lambda seed: Pair(GlobalMeanModel(8), GlobalMeanGuide(8)), [estimators.ELBO()], x[:, None],
            judge_on=x[:, None], run_dir=tmp_path, **QUICK,
        )  # fmt: skip
    assert not list(tmp_path.iterdir())


def test_names_of_a_mapping_are_for_training_and_families_for_the_point():
    given = {"few": IWAE(2), "many": IWAE(5)}
    result = compare(
        make_small_pair, given, make_set(), point={"num_particles": [1], "draws": 10},
        **{**QUICK, "seeds": [1], "epochs": 1},
    )  # fmt: skip
    assert result.table["estimator"].tolist() == ["few", "many"]
    assert result.at_point.table["estimator"].tolist() == ["IWAE"]


def test_both_questions_at_once(tmp_path):
    result = compare(
        make_small_pair, [IWAE(2), IWAE(5)], make_set(), run_dir=tmp_path,
        point={"num_particles": [1, 3], "draws": 20}, **{**QUICK, "seeds": [1], "epochs": 1},
    )  # fmt: skip
    assert result.table["estimator"].tolist() == ["IWAE(2)", "IWAE(5)"]
    assert result.at_point.table["estimator"].tolist() == ["IWAE", "IWAE"]
    pair = initial_pair(make_small_pair, 1)
    pv.fit(pair, IWAE(2), make_set(), epochs=1, seed=1, progress=False, **LEARN)
    evidence = pair.model.log_evidence(make_set().train.take(8).tensors()[0]).mean()
    assert result.at_point.dataset.attrs["evidence"] == pytest.approx(evidence.item(), rel=1e-5)
    again = Comparison.load(tmp_path)
    assert again.after_training.dataset.equals(result.after_training.dataset)
    assert again.at_point.dataset.equals(result.at_point.dataset)
    assert set(result.dataset.children) == {"after_training", "at_point"}
    assert "at one point" in str(result)
    assert "after training" in str(result)


@pytest.mark.parametrize(
    ("point", "error", "message"),
    [
        (
            {"draw": 20},
            TypeError,
            r"at_point\(\) got an unexpected keyword argument 'draw': did you mean 'draws'",
        ),
        ({"draws": 3}, ValueError, "draws must be a whole number >= 10, got 3"),
        ({"num_particles": 5}, ValueError, "num_particles must be a list, got 5"),
    ],
)
def test_options_of_the_point_are_refused_before_anything_is_trained(point, error, message, tmp_path):
    with pytest.raises(error, match=message):
        compare(make_small_pair, [IWAE(2)], make_set(), run_dir=tmp_path / "runs", point=point, **QUICK)
    assert not (tmp_path / "runs").exists()
