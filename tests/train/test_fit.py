"""fit: it learns, repeats itself, stops when it should, and loses nothing."""

from __future__ import annotations

import math
import subprocess
import sys
import textwrap

import pytest
import torch
from pyro.infer import (
    RenyiELBO,
    ReweightedWakeSleep,
    Trace_ELBO,
    TraceEnum_ELBO,
    TraceGraph_ELBO,
    TraceMeanField_ELBO,
    TraceTailAdaptive_ELBO,
)
from torch import nn

import ppl_vae as pv
from ppl_vae import data, estimators, guides, kl, likelihoods, models, nets
from ppl_vae.core.meeting import meet
from tests.oracle import make_pair
from tests.programs import BernoulliGuide, BernoulliModel, GlobalMeanGuide, GlobalMeanModel, Subsampled

QUICK = {"epochs": 3, "batch_size": 64, "progress": False, "device": "cpu"}


@pytest.fixture(scope="module")
def digits():
    return data.load("digits")


def vae(seed=0, latent_dim=4, dropout=0.0, batch_norm=False):
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        decoder = nets.MLPDecoder(latent_dim, (1, 8, 8), (32,), dropout=dropout, batch_norm=batch_norm)
        return pv.Pair(
            models.VAE(likelihoods.Bernoulli(), decoder, latent_dim),
            guides.MeanField(nets.MLPEncoder((1, 8, 8), latent_dim, (32,))),
        )


def weights(pair):
    return {name: value.clone() for name, value in pair.state_dict().items()}


def same(first, second):
    return all(torch.equal(value, second[name]) for name, value in first.items())


@pytest.mark.parametrize(
    "estimator",
    [
        estimators.ELBO(),
        estimators.MeanFieldELBO(2),
        estimators.IWAE(5),
        estimators.Renyi(0.5, 3),
        Trace_ELBO(),
        TraceMeanField_ELBO(num_particles=2, vectorize_particles=True),
        RenyiELBO(alpha=0.0, num_particles=3, vectorize_particles=True),
        TraceGraph_ELBO(),
        TraceEnum_ELBO(max_plate_nesting=1),
        TraceTailAdaptive_ELBO(num_particles=3, vectorize_particles=True),
        ReweightedWakeSleep(num_particles=3, vectorize_particles=True),
    ],
    ids=lambda e: type(e).__name__,
)
def test_every_estimator_learns(estimator, digits):
    run = pv.fit(vae(), estimator, digits, learning_rate=3e-3, **QUICK)
    assert run.stopped == "finished"
    assert list(run.history["epoch"]) == [1, 2, 3]
    assert run.history["valid_elbo"].iloc[-1] > run.history["valid_elbo"].iloc[0] + 1
    assert -60 < run.history["train_bound"].iloc[-1] < -20, "nats per datum"
    assert not run.pair.training


FAMILY = {
    "continuous": [
        estimators.STL(3),
        estimators.DReG(3),
        estimators.MIWAE(2, 2),
        estimators.PIWAE(2, 2),
        estimators.CIWAE(0.5, 3),
        estimators.TVO(3),
        estimators.SUMO(2, 6),
        estimators.Renyi(-math.inf, 3),
        estimators.ReweightedWakeSleep(3, insomnia=0.5),
    ],
    # upper bounds and debiased ones are for judging: as objectives they run, but need not improve the pair
    "judging": [estimators.CUBO(2.0, 3), estimators.JVI(1, 4)],
    "binary": [estimators.ScoreFunction(2), estimators.VIMCO(3), estimators.ARM(), estimators.DisARM()],
}


@pytest.mark.parametrize(
    ("kind", "estimator"), [(kind, e) for kind, made in FAMILY.items() for e in made], ids=repr
)
def test_the_family_trains_by_fit(kind, estimator, digits):
    binary = (pv.Pair(BernoulliModel(), BernoulliGuide()), torch.randn(300) * 2)
    pair, source = binary if kind == "binary" else (vae(), digits)
    run = pv.fit(pair, estimator, source, learning_rate=1e-2, **{**QUICK, "epochs": 2})
    assert run.history["train_elbo"].notna().all()
    if kind == "continuous":
        assert run.history["valid_elbo"].iloc[-1] > -45, "an untrained pair has about -47"


def test_the_logged_terms_add_up(digits):
    run = pv.fit(vae(), estimators.ELBO(), digits, **QUICK)
    last = run.history.iloc[-1]
    for part in ("train", "valid"):
        total = last[f"{part}_reconstruction"] - last[f"{part}_kl_z"]
        assert last[f"{part}_elbo"] == pytest.approx(total, rel=1e-6)
        assert last[f"{part}_bound"] == pytest.approx(last[f"{part}_elbo"], rel=1e-5)


def test_the_true_elbo_is_logged_whatever_is_optimised(digits):
    run = pv.fit(vae(), estimators.ELBO(), digits, kl=0.0, **QUICK)
    last = run.history.iloc[-1]
    assert last["train_elbo"] == pytest.approx(last["train_reconstruction"] - last["train_kl_z"], rel=1e-6)
    assert last["train_bound"] == pytest.approx(last["train_reconstruction"], rel=1e-5)


def test_one_datum_is_trained_on():
    """It is tried as two; once a message of check_pair's said that it was too few."""
    run = pv.fit(make_pair(), estimators.ELBO(), torch.randn(1, 5), **QUICK)
    assert len(run.history) == 3


def test_a_training_depends_on_its_seed_alone(digits):
    torch.manual_seed(1)
    first = weights(pv.fit(vae(), estimators.ELBO(), digits, seed=3, **QUICK).pair)
    torch.manual_seed(2)
    before = torch.get_rng_state()
    second = weights(pv.fit(vae(), estimators.ELBO(), digits, seed=3, **QUICK).pair)
    other = weights(pv.fit(vae(), estimators.ELBO(), digits, seed=4, **QUICK).pair)
    assert torch.equal(torch.get_rng_state(), before)
    assert same(first, second)
    assert not same(first, other)


def test_stock_pyro_and_ours_train_alike(digits):
    ours = pv.fit(vae(), estimators.ELBO(), digits, **QUICK).history["train_bound"]
    stock = pv.fit(vae(), Trace_ELBO(), digits, **QUICK).history["train_bound"]
    assert list(ours) == pytest.approx(list(stock), rel=1e-5)


def test_a_tensor_or_a_split_will_do():
    x = torch.randn(50, 5, dtype=torch.float32)
    run = pv.fit(make_pair(perturb=0.1), estimators.ELBO(), x, **QUICK)
    assert "valid_elbo" not in run.history
    run = pv.fit(make_pair(perturb=0.1), estimators.ELBO(), data.as_split(x), **QUICK)
    assert len(run.history) == 3


@pytest.mark.parametrize("estimator", [estimators.ELBO(), Trace_ELBO()])
def test_a_subsampled_plate_is_counted_per_datum(estimator):
    class Indexed(nn.Module):
        """Looks its rows up in the data, as a program with plate(N, subsample) does."""

        def __init__(self, program, x):
            super().__init__()
            self.program, self.x = Subsampled(program, len(x)), x

        def forward(self, index):
            rows = index[:, 0].long()
            return self.program(self.x[rows], rows)

    x = torch.randn(40, 5)
    plain = make_pair(perturb=0.1)
    pair = pv.Pair(Indexed(plain.model, x), Indexed(plain.guide, x))
    index = torch.arange(40.0)[:, None]
    options = {**QUICK, "batch_size": 40, "learning_rate": 1e-9, "check": False}
    run = pv.fit(pair, estimator, index, **options)
    expected = plain.model.log_evidence(x).mean().item()
    assert expected - 5 < run.history["train_bound"].mean() < expected


def test_global_latents_train_under_the_elbo_and_not_under_iwae():
    x = torch.randn(30) + 2
    run = pv.fit(
        pv.Pair(GlobalMeanModel(30), GlobalMeanGuide(30)),
        estimators.ELBO(),
        x,
        **{**QUICK, "batch_size": 30, "epochs": 200, "learning_rate": 0.05},
    )
    assert abs(run.pair.guide.loc.item() - 2) < 0.6
    with pytest.raises(pv.PairError, match=r"\['theta'\] stand outside the plate 'data'"):
        pv.fit(pv.Pair(GlobalMeanModel(30), GlobalMeanGuide(30)), estimators.IWAE(3), x, **QUICK)


def test_discrete_latents_train_by_the_score_function():
    x = torch.cat([torch.randn(100) - 0.8, torch.randn(100) + 1.5])
    pair = pv.Pair(BernoulliModel(), BernoulliGuide())
    run = pv.fit(pair, estimators.ELBO(5), x, **{**QUICK, "epochs": 10, "learning_rate": 0.03})
    assert run.history["train_bound"].iloc[-1] > run.history["train_bound"].iloc[0]


def test_early_stopping_restores_the_best_weights(digits):
    # a learning rate far too large: the bound soon gets worse again
    options = {**QUICK, "epochs": 40, "learning_rate": 0.1}
    run = pv.fit(vae(), estimators.ELBO(), digits, patience=3, **options)
    assert run.stopped == "early"
    best = run.history.set_index("epoch")["valid_bound"]
    assert run.best_epoch == best.idxmax() == len(run.history) - 3
    short = pv.fit(vae(), estimators.ELBO(), digits, **{**options, "epochs": int(run.best_epoch)})
    assert same(weights(run.pair), weights(short.pair))


def test_dropout_and_batch_norm_work_in_training_only(digits):
    pair = vae(dropout=0.5, batch_norm=True)
    modes = []
    meet(pair, digits.train.take(8).tensors())
    pair.model.decoder.register_forward_hook(lambda module, *_: modes.append(module.training))
    pv.fit(pair, estimators.ELBO(), digits, check=False, **{**QUICK, "epochs": 1})
    steps = math.ceil(len(digits.train) / 64)
    assert modes == [True] * steps + [False] * (len(modes) - steps)
    assert len(modes) > steps


@pytest.mark.parametrize("optimizer", ["adam", "adamw", "adamax", "sgd", torch.optim.RMSprop])
@pytest.mark.parametrize("schedule", ["cosine", lambda fraction: 1 / (1 + fraction)])
def test_optimizers_and_schedules(optimizer, schedule, digits):
    before = weights(vae())
    run = pv.fit(
        vae(),
        estimators.ELBO(),
        digits,
        optimizer=optimizer,
        schedule=schedule,
        clip_norm=1.0,
        **{**QUICK, "epochs": 2},
    )
    assert run.history["learning_rate"].is_monotonic_decreasing
    assert not same(before, weights(run.pair))


def test_clipping_bounds_the_step(digits):
    options = {**QUICK, "epochs": 1, "batch_size": 2000, "optimizer": "sgd", "learning_rate": 1.0}
    before = weights(vae())
    after = weights(pv.fit(vae(), estimators.ELBO(), digits, clip_norm=0.01, **options).pair)
    moved = sum((after[name] - value).square().sum() for name, value in before.items()).sqrt().item()
    assert moved == pytest.approx(0.01, rel=1e-3)


def test_kl_warm_up_and_weights(digits):
    strong = pv.fit(vae(), estimators.MeanFieldELBO(), digits, kl=20.0, **QUICK)
    weak = pv.fit(vae(), estimators.MeanFieldELBO(), digits, kl={"z": kl.LinearWarmup(3)}, **QUICK)
    assert strong.history["train_kl_z"].iloc[-1] < 0.2 * weak.history["train_kl_z"].iloc[-1]


def test_a_kl_weight_has_no_place_in_an_importance_weighted_bound(digits):
    for estimator in (estimators.IWAE(5), RenyiELBO(num_particles=2), Trace_ELBO()):
        with pytest.raises(ValueError, match=r"no KL term to weigh apart.*estimators\.ELBO"):
            pv.fit(vae(), estimator, digits, kl=4.0, **QUICK)


def test_bf16_nets_and_float32_densities(digits):
    run = pv.fit(vae(), estimators.ELBO(), digits, precision="bf16", **QUICK)
    assert run.history["valid_elbo"].iloc[-1] > run.history["valid_elbo"].iloc[0]
    assert all(p.dtype == torch.float32 for p in run.pair.parameters())


class Failing(nn.Module):
    """A decoder that does something at its n-th call in training."""

    def __init__(self, decoder, at, action):
        super().__init__()
        self.decoder, self.at, self.action, self.calls = decoder, at, action, 0

    def forward(self, z):
        if self.training and torch.is_grad_enabled():
            self.calls += 1
            if self.calls == self.at:
                return self.action(self.decoder(z))
        return self.decoder(z)


def failing(at, action):
    pair = vae()
    pair.model.decoder = Failing(pair.model.decoder, at, action)
    return pair


@pytest.mark.filterwarnings("ignore:this pair cannot be rebuilt")
def test_a_nan_stops_the_run_and_keeps_the_last_good_weights(digits, tmp_path):
    pair = failing(30, lambda out: out * float("nan"))
    with pytest.raises(pv.TrainingError, match=r"step 30, epoch 2: the loss is nan") as caught:
        pv.fit(pair, estimators.ELBO(), digits, run_dir=tmp_path / "run", **QUICK)
    assert "keeps its last good weights" in str(caught.value)
    assert all(p.isfinite().all() for p in pair.parameters())
    pv.load(tmp_path / "run", pair=failing(10**9, None))


def test_the_site_of_a_nan_is_named(digits):
    class Exploding(nn.Module):
        def __init__(self):
            super().__init__()
            self.weight = nn.Parameter(torch.ones(()))

        def forward(self, z):
            # the loss stays finite while its gradient does not, so that the weights are lost in one step
            return (z.sum(-1)[..., None, None, None] * self.weight).expand(*z.shape[:-1], 1, 8, 8) + (
                (self.weight - self.weight.detach()).abs().sqrt()
            )

    pair = vae()
    pair.model.decoder = Exploding()
    with pytest.raises(pv.TrainingError, match=r"Not\s+finite first: parameter model\.decoder\.weight"):
        pv.fit(pair, estimators.ELBO(), digits, check=False, **QUICK)
    assert pair.model.decoder.weight.isfinite()


@pytest.mark.filterwarnings("ignore:this pair cannot be rebuilt")
def test_an_interrupt_keeps_what_was_trained(digits, tmp_path):
    def interrupt(out):
        raise KeyboardInterrupt

    pair = failing(50, interrupt)
    run = pv.fit(pair, estimators.ELBO(), digits, run_dir=tmp_path / "run", **QUICK)
    assert run.stopped == "interrupted"
    assert len(run.history) == 2
    again = pv.fit(
        failing(10**9, None), estimators.ELBO(), digits, run_dir=tmp_path / "run", resume=True, **QUICK
    )
    whole = pv.fit(failing(10**9, None), estimators.ELBO(), digits, **QUICK)
    assert same(weights(again.pair), weights(whole.pair))
    assert len(again.history) == 3


SCRIPT = """
import os, signal, sys
import torch
torch.set_num_threads(1)
sys.path.insert(0, {root!r})
from tests.train.test_fit import QUICK, vae
import ppl_vae as pv
from ppl_vae import data, estimators
from ppl_vae.train.step import Step

on = Step.on
calls = []

def killing(*arguments):
    calls.append(1)
    if len(calls) == 45:
        os.kill(os.getpid(), signal.SIGKILL)
    return on(*arguments)

Step.on = killing
options = dict(schedule="cosine", run_dir={folder!r}, capture={capture}, **QUICK)
pv.fit(vae(), estimators.IWAE(3), data.load("digits"), **options)
"""


@pytest.mark.filterwarnings("ignore:this pair cannot be rebuilt")
@pytest.mark.slow
@pytest.mark.parametrize("capture", [False, True], ids=["as written", "captured"])
def test_a_run_killed_in_mid_epoch_resumes_bit_for_bit(capture, digits, tmp_path, pytestconfig):
    folder = tmp_path / "run"
    script = textwrap.dedent(SCRIPT).format(
        root=str(pytestconfig.rootpath), folder=str(folder), capture=capture
    )
    killed = subprocess.run([sys.executable, "-c", script], cwd=tmp_path, capture_output=True, check=False)
    assert killed.returncode == -9, killed.stderr.decode()
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        arguments = (estimators.IWAE(3), digits)
        options = {**QUICK, "schedule": "cosine", "capture": capture}
        resumed = pv.fit(vae(), *arguments, run_dir=folder, resume=True, **options)
        whole = pv.fit(vae(), *arguments, run_dir=tmp_path / "whole", **options)
    finally:
        torch.set_num_threads(threads)
    assert same(weights(resumed.pair), weights(whole.pair))
    ours, theirs = (run.history.drop(columns="seconds") for run in (resumed, whole))
    ours, theirs = (each.drop(columns="capture_seconds", errors="ignore") for each in (ours, theirs))
    assert ours.equals(theirs)
    assert len((folder / "metrics.csv").read_text().splitlines()) == 4


def test_early_stopping_resumes_too(digits, tmp_path):
    options = {**QUICK, "learning_rate": 0.1, "epochs": 40, "patience": 3}
    whole = pv.fit(vae(), estimators.ELBO(), digits, run_dir=tmp_path / "a", **options)
    again = pv.fit(vae(seed=5), estimators.ELBO(), digits, run_dir=tmp_path / "a", resume=True, **options)
    assert again.stopped == "early"
    assert same(weights(whole.pair), weights(again.pair))


def test_a_run_is_loaded_back(digits, tmp_path):
    run = pv.fit(vae(), estimators.ELBO(), digits, run_dir=tmp_path / "run", **QUICK)
    loaded = pv.load(tmp_path / "run")
    assert same(weights(run.pair), weights(loaded))
    assert loaded.blank_batch(2)[0].shape == (2, 1, 8, 8)


def test_a_folder_in_use_and_other_settings_are_refused(digits, tmp_path):
    pv.fit(vae(), estimators.ELBO(), digits, run_dir=tmp_path, **QUICK)
    with pytest.raises(pv.RunError, match="already holds a run"):
        pv.fit(vae(), estimators.ELBO(), digits, run_dir=tmp_path, **QUICK)
    with pytest.raises(pv.RunError, match=r"learning_rate was 0\.001, is 0\.01"):
        pv.fit(vae(), estimators.ELBO(), digits, run_dir=tmp_path, resume=True, learning_rate=0.01, **QUICK)


def test_a_refused_resume_leaves_the_run_as_it_was(digits, tmp_path):
    run = pv.fit(vae(), estimators.ELBO(), digits, run_dir=tmp_path, **QUICK)
    before = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    with pytest.raises(pv.RunError, match=r"does not fit this pair|other settings"):
        pv.fit(
            vae(latent_dim=3),
            estimators.ELBO(),
            digits,
            run_dir=tmp_path,
            resume=True,
            **{**QUICK, "epochs": 9},
        )
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == before
    assert same(weights(run.pair), weights(pv.load(tmp_path)))


def test_a_longer_run_continues(digits, tmp_path):
    pv.fit(vae(), estimators.ELBO(), digits, run_dir=tmp_path, **QUICK)
    longer = pv.fit(vae(), estimators.ELBO(), digits, run_dir=tmp_path, resume=True, **{**QUICK, "epochs": 5})
    whole = pv.fit(vae(), estimators.ELBO(), digits, **{**QUICK, "epochs": 5})
    assert same(weights(longer.pair), weights(whole.pair))


@pytest.mark.parametrize(
    ("options", "fragment"),
    [
        ({"epochs": 0}, "epochs must be a positive whole number"),
        ({"batch_size": -1}, "batch_size must be a positive whole number"),
        ({"learning_rate": 0.0}, "learning_rate must be positive"),
        ({"schedule": "cosin"}, "unknown schedule 'cosin': the known ones are"),
        ({"optimizer": "adan"}, "unknown optimizer 'adan'"),
        ({"clip_norm": -1.0}, "clip_norm must be positive and finite"),
        ({"device": "tpu"}, "device 'tpu' is not available here"),
        ({"precision": "fp8"}, "precision must be one of 'auto', 'float32', 'bf16'"),
        ({"loggers": ["tensorbord"]}, "unknown loggers"),
        ({"loggers": ["tensorboard"]}, "need a run folder"),
        ({"resume": True}, "resume=True needs the run's folder"),
        ({"kl": {"y": 2.0}}, r"kl names \['y'\], but the pair's latent sites are \['z'\]"),
        ({"kl": -1.0}, "a KL weight must be a number >= 0"),
        ({"estimator": estimators.IWAE}, "estimator must be an object such as"),
    ],
    ids=lambda value: str(value)[:30],
)
def test_options_out_of_range(options, fragment, digits):
    arguments = {"estimator": estimators.ELBO(), **QUICK, **options}
    with pytest.raises(ValueError, match=fragment):
        pv.fit(vae(), data=digits, **arguments)


def test_tensorboard_gets_the_metrics(digits, tmp_path):
    pytest.importorskip("tensorboard")
    pv.fit(
        vae(), estimators.ELBO(), digits, run_dir=tmp_path, loggers=["tensorboard"], **{**QUICK, "epochs": 1}
    )
    assert list((tmp_path / "tensorboard").glob("events.*"))


@pytest.mark.parametrize("name", ["wandb", "mlflow"])
def test_a_logger_that_is_not_installed_says_how(name, digits, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, name, None)
    with pytest.raises(ImportError, match=f"pip install 'ppl_vae\\[{name}\\]'"):
        pv.fit(vae(), estimators.ELBO(), digits, run_dir=tmp_path, loggers=[name], **QUICK)


@pytest.mark.cuda
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
@pytest.mark.parametrize("precision", ["float32", "bf16"])
def test_fit_on_cuda(precision, digits, tmp_path):
    options = {**QUICK, "device": "cuda", "precision": precision}
    run = pv.fit(vae(), estimators.IWAE(5), digits, run_dir=tmp_path, **options)
    assert run.pair.device.type == "cuda"
    assert run.history["valid_elbo"].iloc[-1] > run.history["valid_elbo"].iloc[0]
    assert pv.load(tmp_path).device.type == "cpu"


def nvil():
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return estimators.NVIL(nn.Sequential(nn.Flatten(0), nn.Unflatten(0, (-1, 1)), nn.Linear(1, 1)), 2)


def test_what_an_estimator_learns_is_trained_saved_and_resumed(tmp_path):
    x = torch.randn(40) * 2
    options = {**QUICK, "epochs": 6, "learning_rate": 0.05, "clip_norm": 10.0}

    def pair():
        return pv.Pair(BernoulliModel(), BernoulliGuide())

    whole = nvil()
    run = pv.fit(pair(), whole, x, **options)
    assert not same(nvil().auxiliary.state_dict(), whole.auxiliary.state_dict())
    pv.fit(pair(), nvil(), x, run_dir=tmp_path, **{**options, "epochs": 3})
    resumed = nvil()
    again = pv.fit(pair(), resumed, x, run_dir=tmp_path, resume=True, **options)
    assert same(weights(run.pair), weights(again.pair))
    assert same(whole.auxiliary.state_dict(), resumed.auxiliary.state_dict())
