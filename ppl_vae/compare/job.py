"""Job: one run of a comparison after training: a pair is made, trained and judged, or read from its folder."""

from __future__ import annotations

import copy
import hashlib
import json
import warnings
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from pyro.infer import ELBO as PyroELBO
from torch import Tensor

from ppl_vae import evaluate
from ppl_vae.compare.factories import label
from ppl_vae.data import DataSet, Split
from ppl_vae.fit import Run, TrainingError, fit
from ppl_vae.isolation import one_thread, random_numbers
from ppl_vae.pair import Pair
from ppl_vae.run_folder import RunError, RunFolder, atomic_write

MakePair = Callable[[int], Pair]

SETTINGS, SCORE = "job.json", "score.npz"


@dataclass(frozen=True, eq=False)
class Judging:
    """How every run is judged: what on, with how many particles, and with which noise."""

    data: Split | tuple[Tensor, ...]
    num_particles: int
    seed: int


@dataclass(frozen=True, eq=False)
class Score:
    """What a run came to; `arrays` by name, of which `log_likelihood` and `k_hat` are (N,) by datum.

    `failure` says why there are none.
    """

    arrays: Mapping[str, np.ndarray] = field(default_factory=dict)
    history: pd.DataFrame = field(default_factory=pd.DataFrame)
    failure: str = ""


@dataclass(frozen=True, eq=False)
class Job:
    """One estimator and one seed.

    Attributes:
        name: of the estimator.
        seed: of the initial weights, the data's order and all noise.
        folder: where the run is kept.
        epochs, seconds: the budget; one of them is None.
        options: the other arguments of `fit`.
    """

    name: str
    seed: int
    make_pair: MakePair
    estimator: PyroELBO
    data: DataSet | Split
    judging: Judging
    folder: Path
    epochs: int | None
    seconds: float | None
    options: Mapping[str, Any]

    @one_thread
    def run(self) -> Score:
        """Train and judge, as far as that has not been done.

        Raises:
            RunError: for a folder that holds a run with other settings.
            KeyboardInterrupt: when the training was interrupted; the next call goes on from there.
        """
        pair = initial_pair(self.make_pair, self.seed)
        settings = self._settings(pair)
        known = _read_settings(self.folder)
        self._refuse_other(known.get("training", settings["training"]), settings["training"])
        if known == settings and (self.folder / SCORE).is_file():
            return _read_score(self.folder)
        self.folder.mkdir(parents=True, exist_ok=True)
        _write_settings(self.folder, {**settings, "judging": None})  # not judged yet
        try:
            trained = self._train(pair)
        except TrainingError as error:
            return Score(failure=str(error))
        if trained.stopped == "interrupted":
            raise KeyboardInterrupt(f"{self.name}, seed {self.seed}: stopped in {self.folder}")
        arrays = _judge(trained.pair, self.judging)
        atomic_write(self.folder / SCORE, lambda path: np.savez(path, **arrays))  # type: ignore[arg-type]
        _write_settings(self.folder, settings)
        return _read_score(self.folder)

    def trained_pair(self) -> Pair:
        """The pair of a run that is done."""
        pair = initial_pair(self.make_pair, self.seed)
        RunFolder(self.folder).load_weights(pair)
        return pair.eval()

    def _train(self, pair: Pair) -> Run:
        def train(epochs: int) -> Run:
            return fit(
                pair,
                copy.deepcopy(self.estimator),
                self.data,
                epochs=epochs,
                seed=self.seed,
                run_dir=self.folder,
                resume=True,
                **{"progress": False, **self.options},
            )

        if self.seconds is None:
            assert self.epochs is not None
            return train(self.epochs)
        # an epoch tells how many fit into the budget; most of them, and then the rest, one look more at the clock
        run, epochs = None, 1
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", "training ends after")  # it goes on in the next call
            while run is None or run.stopped != "early":
                run = train(epochs)
                spent = float(run.history["seconds"].sum())
                if run.stopped == "interrupted" or spent >= self.seconds:
                    break
                done = len(run.history)
                epochs = done + max(1, int(0.9 * (self.seconds - spent) * done / spent))
        return run

    def _settings(self, pair: Pair) -> dict[str, Any]:
        training = {
            "estimator": label(self.estimator, with_particles=True),
            "seed": self.seed,
            "data": fingerprint(self.data),
            "pair": _fingerprint_of_pair(pair),
            **{name: str(value) for name, value in sorted(self.options.items())},
        }
        budget = {"epochs": self.epochs, "seconds": self.seconds}
        judging = {
            "data": fingerprint(self.judging.data),
            "num_particles": self.judging.num_particles,
            "seed": self.judging.seed,
        }
        settings: dict[str, Any] = json.loads(
            json.dumps({"training": training, "budget": budget, "judging": judging})
        )
        return settings

    def _refuse_other(self, known: Mapping[str, Any], wanted: Mapping[str, Any]) -> None:
        changed = [name for name in {**known, **wanted} if known.get(name) != wanted.get(name)]
        if changed:
            listed = "; ".join(f"{name} was {known.get(name)!r}, is {wanted.get(name)!r}" for name in changed)
            raise RunError(
                f"{self.folder} holds a run of another comparison: {listed}. Choose another run_dir, or delete "
                f"that folder"
            )


def initial_pair(make_pair: MakePair, seed: int) -> Pair:
    """The untrained pair of a seed: `make_pair(seed)`, with torch seeded likewise.

    Raises:
        TypeError: when it gives no pair.
    """
    with random_numbers(seed, torch.device("cpu")):
        pair = make_pair(seed)
    if not isinstance(pair, Pair):
        raise TypeError(f"make_pair(seed) must return a ppl_vae.Pair, got {type(pair).__name__}")
    return pair


def fingerprint(data: DataSet | Split | tuple[Tensor, ...]) -> str:
    """A data set's sizes, and a sum by which to tell it from another of the same sizes."""
    if isinstance(data, DataSet):
        return f"{data!r}, {fingerprint(data.train)}"
    if isinstance(data, Split):
        return f"{len(data)} of {data.shape}, sum {float(data.take(1000).mean().sum()):.9g}"
    return ", ".join(f"{tuple(x.shape)}, sum {float(x[:1000].double().sum()):.9g}" for x in data)


def _fingerprint_of_pair(pair: Pair) -> str:
    total = sum(float(value.double().abs().sum()) for value in pair.state_dict().values())
    return f"{hashlib.sha256(repr(pair).encode()).hexdigest()[:12]}, sum {total:.9g}"


def _judge(pair: Pair, judging: Judging) -> dict[str, np.ndarray]:
    options: dict[str, Any] = {"seed": judging.seed, "progress": False}
    found = evaluate.log_likelihood(pair, judging.data, judging.num_particles, **options)
    bounds = evaluate.bounds(pair, judging.data, **options)
    active = evaluate.active_units(pair, judging.data, **options)
    arrays = {
        "log_likelihood": found.per_datum.numpy(),
        "k_hat": found.k_hat.numpy(),
        "monte_carlo_standard_error": np.array(found.monte_carlo_standard_error),
        "elbo": np.array(bounds.elbo),
        "reconstruction": np.array(bounds.reconstruction),
    }
    arrays |= {f"kl_{site}": np.array(value) for site, value in bounds.kl.items()}
    arrays |= {f"active_{site}": np.array(count) for site, count in active.count.items()}
    return arrays


def _read_score(folder: Path) -> Score:
    try:
        with np.load(folder / SCORE, allow_pickle=False) as stored:
            arrays = {name: stored[name] for name in stored.files}
    except (OSError, ValueError, EOFError) as error:
        raise RunError(
            f"{folder / SCORE} is damaged ({error}): delete it, and the run is judged again"
        ) from error
    return Score(arrays, RunFolder(folder).read_metrics())


def _read_settings(folder: Path) -> dict[str, Any]:
    path = folder / SETTINGS
    if not path.is_file():
        return {}
    try:
        settings: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise RunError(f"{path} is damaged ({error}): delete {folder}, and the run starts afresh") from error
    return settings


def _write_settings(folder: Path, settings: Mapping[str, Any]) -> None:
    text = json.dumps(settings, indent=2) + "\n"
    atomic_write(folder / SETTINGS, lambda path: path.write_text(text, encoding="utf-8"))
