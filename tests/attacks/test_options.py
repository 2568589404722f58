"""Hostile options, by Hypothesis: a run with finite numbers or one clear error, and the caller's state as it was."""

from __future__ import annotations

import contextlib
import inspect
import io
import math
import random
from collections import Counter
from typing import Any

import numpy as np
import pyro
import pytest
import torch
from torch.distributions import Distribution

import ppl_vae as pv
from ppl_vae import cli, comparison, data, estimators, evaluate
from tests.attacks.helpers import LENGTH, X, make_pair, outcome, record, times

hypothesis = pytest.importorskip("hypothesis")
from hypothesis import HealthCheck, Phase, given, settings  # noqa: E402
from hypothesis import strategies as st  # noqa: E402

COUNTS: Counter[str] = Counter()
pytestmark = [
    pytest.mark.filterwarnings("ignore"),  # an odd option may well draw one; errors are what is looked at
]

ODD = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-3, 3),
    st.sampled_from([10**30, -(10**30), 2**63, 2**31, 1e308, -0.0, 1e-320, math.nan, math.inf, -math.inf, 0.5, 1.5]),
    st.text(max_size=6),
    st.sampled_from(["auto", "cpu", "cuda:99", "cosine", "adam", "bf16", "\0", "../x", "%s", "{}", "1", "true", "None"]),
    st.binary(max_size=4),
    st.lists(st.integers(-2, 2), max_size=2),
    st.dictionaries(st.text(max_size=3), st.integers(), max_size=2),
    st.sampled_from([object(), object, int, len, print, 1j, ..., lambda: 0, np.float64(2), np.int64(1), np.bool_(True)]),
    st.sampled_from([torch.tensor(1), torch.tensor(math.nan), torch.ones(2), np.ones(2), torch.device("cpu"), range(2)]),
)  # fmt: skip
"""Values that nobody means, and some that somebody does."""

TENSORS = st.one_of(
    ODD,
    st.sampled_from([
        torch.empty(0, 2), torch.empty(3, 0), torch.ones(3), torch.ones(3, 3), torch.ones(3, 2, 1), X[:3] * math.nan,
        X[:3] * 1e38, X[:3].double(), X[:3].half(), X[:3].int(), X[:3] > 0, X[:3].to_sparse(), X[:3].to("meta"),
        X[:3].requires_grad_(), X[:3].cfloat(), X[:1], X[:3].numpy(), X[:3].tolist(), (X[:3], X[:3]),
    ]),
)  # fmt: skip


def attacking(small: int, large: int):
    """Settings: always the same examples in the small run, new ones in the large."""
    return settings(
        max_examples=times(small, large),
        derandomize=not LENGTH,
        deadline=None,
        database=None,
        print_blob=False,
        phases=[Phase.generate],  # making an example smaller takes longer than reading it
        suppress_health_check=list(HealthCheck),
    )


def surroundings() -> tuple[Any, ...]:
    return (
        torch.get_rng_state().tolist(),
        random.getstate(),
        pyro.infer.is_validation_enabled(),
        pyro.distributions.is_validation_enabled(),
        Distribution._validate_args,
        torch.is_grad_enabled(),
        torch.get_default_dtype(),
        list(pyro.poutine.runtime._PYRO_STACK),
    )


def attack(what: str, action: Any, is_right: Any = lambda result: True) -> None:
    before = surroundings()
    with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
        result, bad = outcome(action)
    COUNTS["raw_errors"] += bool(bad)
    assert not bad, f"{what}: {bad}"
    assert result is None or is_right(result), f"{what}: not a right result: {result!r:.300}"
    assert surroundings() == before, f"{what}: the caller's state is another"
    COUNTS["accepted" if result is not None else "refused"] += 1


def options_of(function: Any, without: tuple[str, ...] = ()) -> list[str]:
    kinds = (inspect.Parameter.KEYWORD_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)
    parameters = inspect.signature(function).parameters.values()
    return [p.name for p in parameters if p.kind in kinds and p.name not in without]


def finite(run: pv.Run) -> bool:
    return all(bool(value.isfinite().all()) for value in run.pair.state_dict().values())


FIT = options_of(pv.fit, ("pair", "estimator", "data", "fabric", "capture", "epochs"))


@attacking(60, 3000)
@given(st.dictionaries(st.sampled_from(FIT), ODD, min_size=1, max_size=2))
def test_fit(tmp_path_factory, given_options):
    options = {"progress": False, "device": "cpu", "check": False, "batch_size": 30, **given_options}
    if "run_dir" in options and isinstance(options["run_dir"], str):
        options["run_dir"] = str(tmp_path_factory.mktemp("runs")) + "/" + options["run_dir"]
    attack(
        f"fit(**{given_options})",
        lambda: pv.fit(make_pair(), estimators.ELBO(), X, epochs=1, **options),
        finite,
    )


@attacking(15, 600)
@given(st.sampled_from(["epochs", "capture", "estimator", "data", "pair", "fabric"]), TENSORS)
def test_fits_own_arguments(name, value):
    if isinstance(value, int | float) and not isinstance(value, bool) and 3 < value < math.inf:
        value = 3  # epochs=10**30 is a wish
    arguments = {"pair": make_pair(), "estimator": estimators.ELBO(), "data": X, "epochs": 1, name: value}
    if name == "capture" and value is True:
        return
    attack(
        f"fit({name}={value!r})",
        lambda: pv.fit(**arguments, progress=False, device="cpu", batch_size=30),
        finite,
    )


EVALUATIONS = {
    name: options_of(getattr(evaluate, name), ("pair", "data"))
    for name in ("bounds", "log_likelihood", "active_units", "summary")
}


@attacking(40, 1500)
@given(st.sampled_from(sorted(EVALUATIONS)), st.data())
def test_evaluate(name, drawn):
    option = drawn.draw(st.sampled_from(EVALUATIONS[name]))
    value = drawn.draw(ODD)
    if isinstance(value, int | float) and value > 1e6 and "num" in option:
        value = 100
    options = {"progress": False, option: value}
    if option == "seed" and value is None:
        return  # the caller's random numbers are used up
    attack(f"evaluate.{name}(**{options})", lambda: getattr(evaluate, name)(make_pair(), X[:6], **options))


@attacking(30, 1000)
@given(st.sampled_from(sorted(EVALUATIONS)), TENSORS)
def test_evaluate_on_odd_data(name, value):
    attack(
        f"evaluate.{name}(pair, {value!r})",
        lambda: getattr(evaluate, name)(make_pair(), value, progress=False),
    )


QUESTIONS = {
    name: options_of(getattr(pv, name), ("pair",)) for name in ("sample", "encode", "reconstruct", "decode")
}
QUESTIONS |= {name: options_of(getattr(pv, name), ("pair",)) for name in ("interpolate", "traverse")}


@attacking(80, 3000)
@given(st.sampled_from(sorted(QUESTIONS)), st.data())
def test_questions(name, drawn):
    batch = drawn.draw(st.one_of(st.just(X[:3]), TENSORS))
    options: dict[str, Any] = {}
    chosen = [each for each in QUESTIONS[name] if each not in ("x", "x0", "x1", "latents", "n")]
    if chosen:
        options = {drawn.draw(st.sampled_from(chosen)): drawn.draw(ODD)}
    for option in ("num_samples", "steps"):
        if isinstance(options.get(option), int | float) and options[option] > 1e4:
            options[option] = 3  # so many are a wish
    ends = (batch, X[:3]) if name == "interpolate" else (batch,)
    if name == "decode":
        ends = (
            drawn.draw(st.one_of(st.just({"z": X[:3, :1]}), st.dictionaries(st.just("z"), TENSORS), ODD)),
        )
    if name == "sample" and isinstance(batch, int) and batch > 10**4:
        return
    if options.setdefault("seed", 0) is None:
        return  # the caller's random numbers are used up
    attack(f"{name}{ends!r}, {options}", lambda: getattr(pv, name)(make_pair(), *ends, **options))


@attacking(15, 500)
@given(
    st.sampled_from(options_of(comparison.after_training, ("make_pair", "data", "fit_options", "run_dir"))),
    ODD,
)
def test_compare(option, value):
    if isinstance(value, int | float) and value > 100:
        value = 2
    arguments = {
        "estimators": [estimators.ELBO()],
        "epochs": 1,
        "seeds": [0],
        "judge_on": X[:4],
        "judge_particles": 5,
    }
    arguments |= {"progress": False, option: value}
    if option == "n_jobs" and isinstance(value, int) and value != 1:
        return  # processes
    attack(
        f"comparison.after_training({option}={value!r})",
        lambda: comparison.after_training(make_pair, data=X[:20], device="cpu", **arguments),
    )


@attacking(30, 1000)
@given(
    st.one_of(TENSORS, st.sampled_from(["digits", "two_moons", "nowhere.npz", ".", "/dev/zero"])),
    st.data(),
)
def test_data(source, drawn):
    chosen = drawn.draw(
        st.dictionaries(st.sampled_from(options_of(data.load, ("name_or_path",))), ODD, max_size=1)
    )
    attack(f"data.load({source!r}, **{chosen})", lambda: data.load(source, **chosen))


WORDS = st.one_of(
    st.sampled_from(["--epochs", "--data", "--estimator", "--config", "--run_dir", "--seed", "--device", "--model", "-x"]),
    st.sampled_from(["--batch_size", "--learning_rate", "--schedule", "--kl", "--loggers", "--trust", "--", "--load.size"]),
    st.sampled_from(["0", "-1", "nan", "1e309", "digits", "IWAE", "null", "[]", "{}", "[1", "!!python/name:os.system", ""]),
    st.text(max_size=5),
)  # fmt: skip


@attacking(40, 1500)
@given(
    st.sampled_from(["train", "evaluate", "sample", "list", "check", "compare", ""]),
    st.lists(WORDS, max_size=3),
)
def test_the_command_line(tmp_path_factory, command, words):
    words = [word for word in ([command] if command else []) + words]
    if command in ("train", "compare"):  # whatever else they say, they end soon and write elsewhere
        words += ["--run_dir", str(tmp_path_factory.mktemp("run") / "run"), "--epochs", "0"]
    before = surroundings()
    out, errors = io.StringIO(), io.StringIO()
    with contextlib.chdir(tmp_path_factory.getbasetemp()), contextlib.redirect_stdout(out):
        with contextlib.redirect_stderr(errors):
            code = cli.main(words)
    assert code in (0, 1, 2), words
    assert "Traceback" not in errors.getvalue(), f"{words}: {errors.getvalue()[-1500:]}"
    assert "bug of ppl_vae" not in errors.getvalue(), f"{words}: {errors.getvalue()[-1500:]}"
    assert code == 0 or errors.getvalue().strip() or out.getvalue().strip(), words
    assert surroundings()[2:] == before[2:], words  # a command is its process: random numbers are its own
    COUNTS[f"exit code {code}"] += 1


def test_what_was_counted():
    record("hostile options", **COUNTS)
