"""`fit`'s options: what is wrong, or would do nothing, is refused before the first step."""

from __future__ import annotations

import functools
import re
import sys

import numpy as np
import pytest
import torch

import ppl_vae as pv
from ppl_vae import comparison, data, estimators, guides, kl, models, nets
from ppl_vae.runs import seals
from ppl_vae.train import options, step
from ppl_vae.train.loggers import LOGGERS
from ppl_vae.train.optimizers import make_optimizer

X = torch.randn(24, 3, generator=torch.Generator().manual_seed(0))


def pair(seed=0):
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return pv.Pair(models.LinearGaussian(2, 3), guides.MeanField(nets.MLPEncoder((3,), 2, hidden=())))


def train(x=X, **options):
    return pv.fit(
        pair(), estimators.ELBO(), x, **{"epochs": 1, "progress": False, "device": "cpu", **options}
    )


def decays(monkeypatch, **options):
    """The weight decay that a training's optimizer has."""
    seen, proceed = [], step.Step.__init__

    def watched(self, one, estimator, optimizer, **given):
        seen.append(optimizer.param_groups[0]["weight_decay"])
        proceed(self, one, estimator, optimizer, **given)

    monkeypatch.setattr(step.Step, "__init__", watched)
    train(**options)
    return seen[0]


def with_keywords(parameters, **options):
    return torch.optim.AdamW(parameters, **options)


@pytest.mark.parametrize(
    ("options", "decay"),
    [
        ({"optimizer": torch.optim.AdamW, "weight_decay": 0.3}, 0.3),
        ({"optimizer": torch.optim.AdamW, "weight_decay": 0.0}, 0.0),
        ({"optimizer": torch.optim.AdamW}, 0.01),
        ({"optimizer": with_keywords, "weight_decay": 0.3}, 0.3),
        ({"optimizer": functools.partial(torch.optim.AdamW, betas=(0.8, 0.9)), "weight_decay": 0.3}, 0.3),
        ({"optimizer": "adamw", "weight_decay": 0.3}, 0.3),
        ({"optimizer": "adamw"}, 0.0),
    ],
)
def test_weight_decay_reaches_the_optimizer(options, decay, monkeypatch):
    assert decays(monkeypatch, **options) == decay


def drops_it(parameters, lr, weight_decay):
    return torch.optim.AdamW(parameters, lr=lr)


def swallows_it(parameters, **options):
    return torch.optim.SGD(parameters, lr=options["lr"])


@pytest.mark.parametrize(
    ("options", "says"),
    [
        (
            {"optimizer": lambda p, lr: torch.optim.SGD(p, lr), "weight_decay": 0.3},
            "no argument 'weight_decay'",
        ),
        ({"optimizer": drops_it, "weight_decay": 0.3}, "does not reach the optimizer, which has 0.01"),
        ({"optimizer": swallows_it, "weight_decay": 0.3}, "does not reach the optimizer, which has 0"),
        (
            {"optimizer": functools.partial(torch.optim.AdamW, weight_decay=0.1), "weight_decay": 0.3},
            "sets 0.1",
        ),
        ({"optimizer": functools.partial(torch.optim.AdamW, lr=0.1)}, "give fit learning_rate instead"),
        ({"optimizer": lambda p: torch.optim.SGD(p, 0.1)}, "no argument 'lr'"),
        ({"optimizer": torch.optim.LBFGS}, "LBFGS"),
        ({"optimizer": lambda p, lr: None}, "must return a torch optimizer"),
        ({"optimizer": 3}, "unknown optimizer 3"),
        ({"schedule": lambda fraction: None}, "no function of one number"),
        ({"schedule": lambda: 1.0}, "no function of one number"),
        ({"schedule": lambda fraction: float("nan")}, "finite number >= 0"),
        ({"schedule": 0.5}, "unknown schedule 0.5"),
        ({"patience": 3}, "patience=3 does nothing without validation data"),
        ({"validate_every": 2}, "validate_every=2 does nothing without validation data"),
        ({"checkpoint_every": 2}, "checkpoint_every=2 does nothing without a folder"),
        ({"loggers": ["tensorboard"]}, "need a run folder"),
        ({"loggers": "tensorboard"}, r"loggers=\['tensorboard'\]"),
        ({"matmul_precision": "bf16"}, "captured steps alone"),
        ({"epochs": True}, "epochs must be a positive whole number, got True"),
        ({"epochs": 1.0}, "epochs must be a positive whole number"),
        ({"batch_size": "20"}, "batch_size must be a positive whole number"),
        ({"patience": 1.5}, "patience must be a positive whole number or None, got 1.5"),
        ({"patience": True}, "patience must be a positive whole number or None"),
        ({"patience": 0}, "patience must be a positive whole number or None"),
        ({"seed": -1}, "seed must be a whole number from 0"),
        ({"seed": 0.5}, "seed must be a whole number from 0"),
        ({"seed": True}, "seed must be a whole number from 0"),
        ({"seed": 2**64}, "seed must be a whole number from 0"),
        ({"seed": None}, "seed must be a whole number from 0"),
        ({"learning_rate": float("nan")}, "learning_rate must be positive and finite"),
        ({"learning_rate": float("inf")}, "learning_rate must be positive and finite"),
        ({"learning_rate": "0.1"}, "learning_rate must be positive and finite"),
        ({"weight_decay": -0.1}, "weight_decay must be >= 0"),
        ({"clip_norm": 0}, "clip_norm must be positive"),
        ({"clip_norm": "1"}, "clip_norm must be positive"),
        ({"clip_norm": 10**400}, "clip_norm must be positive and finite"),
        ({"resume": "no"}, "resume must be True or False"),
        ({"progress": None}, "progress must be True or False"),
        ({"check": 1}, "check must be True or False"),
        ({"capture": 1}, "capture must be one of"),
        ({"capture": "yes"}, "capture must be one of"),
        ({"precision": "bf-16"}, "precision must be one of"),
        ({"device": 0}, "device must be 'auto', 'cpu'"),
        ({"device": "cuda:x"}, "device must be 'auto', 'cpu'"),
        ({"device": "cpu:1"}, "cpu has 1"),
        ({"device": torch.device("cuda:77")}, "is not available here"),
        ({"device": "xpu"}, "is not available here"),
        ({"kl": None}, "kl must be a weight, a treatment"),
        ({"kl": True}, "kl must be a weight, a treatment"),
        ({"kl": "0.5"}, "kl must be a weight, a treatment"),
        ({"kl": torch.ones(2)}, "kl must be a weight, a treatment"),
        ({"loggers": torch.tensor(1.0)}, r"loggers must be a list, got tensor\(1.\)"),
        ({"kl": kl.LinearWarmup}, "make an object of it"),
        ({"kl": {"z": None}}, "kl must be a weight, a treatment"),
        ({"kl": {}}, "names no site"),
    ],
    ids=lambda value: re.sub(r" at 0x\w+", "", str(value)),  # an address differs from worker to worker
)
def test_what_is_wrong_or_would_do_nothing_is_refused(options, says, monkeypatch):
    monkeypatch.setattr(step.Step, "__call__", lambda *_: pytest.fail("a step was taken"))
    monkeypatch.setattr(step.Step, "on", lambda *_: pytest.fail("a step was taken"))
    with pytest.raises(ValueError, match=says):
        train(**options)


@pytest.mark.parametrize("logger", LOGGERS)
def test_a_logger_that_is_not_installed_leaves_no_folder(logger, tmp_path, monkeypatch):
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(ImportError, match=f"pip install 'ppl_vae\\[{logger}\\]'"):
        train(run_dir=tmp_path / "run", loggers=[logger])
    assert not (tmp_path / "run").exists()


class OtherFabric:
    """As much of a fabric as is looked at before it is used."""

    class strategy:
        class precision:
            precision = "bf16-mixed"


@pytest.mark.parametrize(
    ("options", "says"), [({"device": "cpu"}, "beside fabric"), ({"device": "auto"}, "'32-true'")]
)
def test_a_fabric_has_its_own_device_and_no_precision(options, says):
    with pytest.raises(ValueError, match=says):
        train(fabric=OtherFabric(), **options)


def test_what_means_the_same_is_taken(tmp_path):
    first = train(
        data.from_tensors(X),
        device=torch.device("cpu"),
        epochs=np.int64(2),
        patience=np.int64(5),
        seed=np.int32(0),
    )
    second = train(data.from_tensors(X), device="cpu", epochs=2, patience=5, run_dir=tmp_path, seed=0)
    assert first.history["train_bound"].tolist() == second.history["train_bound"].tolist()
    train(data.from_tensors(X), device=torch.device("cpu", 0), epochs=np.int64(3), patience=np.int64(5),
          run_dir=tmp_path, resume=True)  # fmt: skip


def test_groups_keep_the_ratio_of_their_learning_rates():
    weight, bias = (torch.nn.Parameter(torch.ones(1)) for _ in range(2))

    def two(parameters, lr):
        return torch.optim.SGD([{"params": [weight]}, {"params": [bias], "lr": 10 * lr}], lr=lr)

    made = make_optimizer(two, [weight, bias], 0.1)
    taken = step.Step.__new__(step.Step)
    taken._optimizer = made
    taken.set_learning_rate(0.05)
    assert [group["lr"] for group in made.param_groups] == pytest.approx([0.05, 0.5])


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"wieght_decay": 0.1}, "wieght_decay"),
        ({"judge_particles": 0}, "judge_particles must be a positive"),
        ({"judge_seed": -1}, "judge_seed must be a whole number"),
        ({"seeds": [-1]}, "seeds must be"),
        ({"n_jobs": 0}, "n_jobs"),
        ({"epochs": 1.5}, "epochs must be a positive whole number"),
        ({"patience": 1.5}, "patience must be a positive whole number"),
        ({"optimizer": functools.partial(torch.optim.AdamW, lr=0.1)}, "learning_rate instead"),
    ],
)
def test_a_comparison_refuses_before_its_first_run(options, says, monkeypatch, tmp_path):
    monkeypatch.setattr(
        sys.modules["ppl_vae.comparison.job"], "fit", lambda *_, **__: pytest.fail("a run was started")
    )
    given = {"epochs": 1, "seeds": [0], "progress": False, **options}
    with pytest.raises((ValueError, TypeError), match=says):
        comparison.after_training(pair, [estimators.ELBO()], data.from_tensors(X), run_dir=tmp_path, **given)


@pytest.mark.parametrize("epochs", [-3, 0, float("nan"), float("inf"), "3", True])
@pytest.mark.parametrize("treatment", [kl.LinearWarmup, kl.CosineWarmup, kl.SigmoidWarmup, kl.CyclicWarmup])
def test_warm_ups_need_a_duration(treatment, epochs):
    with pytest.raises(ValueError, match="positive number of epochs"):
        treatment(epochs=epochs)


def test_the_digest_of_a_run_leaves_out_what_the_options_mark_as_free():
    """The list is part of the files' format, and so stands there in writing."""
    assert set(seals.MAY_CHANGE) == set(options.MAY_CHANGE)
