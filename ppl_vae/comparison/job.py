"""Job: one run of a comparison: a pair is made, trained and judged, or read from its folder."""

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
from ppl_vae.comparison.factories import label
from ppl_vae.core.isolation import one_thread, random_numbers
from ppl_vae.core.pair import Pair
from ppl_vae.data import DataSet, Split
from ppl_vae.runs import RunError, RunFolder
from ppl_vae.runs.behaviour import log_densities, unlike
from ppl_vae.runs.identity import data_identity, split_identity
from ppl_vae.runs.naming import same_setting, text_of
from ppl_vae.runs.seals import check_json, digest_of_tensors, sealed_json
from ppl_vae.runs.weights import shortened
from ppl_vae.train import Run, TrainingError, fit

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
        settings, computes = self._settings(pair), self._computes(pair)
        if self._is_done(settings, computes):
            return _read_score(self.folder)
        folder = RunFolder(self.folder)
        with folder.owned():
            if self._is_done(settings, computes):  # another process has done it meanwhile
                return _read_score(self.folder)
            _write_settings(folder, {**settings, "judging": None, "computes": computes})  # not judged yet
            try:
                trained = self._train(pair)
            except TrainingError as error:
                return Score(failure=str(error))
            if trained.stopped == "interrupted":
                raise KeyboardInterrupt(f"{self.name}, seed {self.seed}: stopped in {self.folder}")
            arrays = _judge(trained.pair, self.judging)
            folder.write(SCORE, lambda path: np.savez(path, **arrays))  # type: ignore[arg-type]
            _write_settings(folder, {**settings, "computes": computes})
            folder.tell()
            return _read_score(folder.path)

    def _is_done(self, settings: Mapping[str, Any], computes: Mapping[str, float] | None) -> bool:
        """Whether the run has been judged as it would be now.

        Raises:
            RunError: for a folder that holds a run with other settings.
        """
        known = _read_settings(self.folder)
        if not known:
            return False
        before, known = known.get("computes"), _completed(known, settings)
        self._refuse_other(known["training"], settings["training"])
        if before and computes and (differing := unlike(before, computes)):
            raise RunError(
                f"{self.folder} holds a run of another pair, though its weights are the same: untrained and "
                f"on the first data, {shortened(differing)}. Choose another run_dir, or delete that folder"
            )
        same = all(known.get(name) == settings[name] for name in ("budget", "judging"))
        return same and (self.folder / SCORE).is_file()

    def trained_pair(self) -> Pair:
        """The pair of a run that is done."""
        pair = initial_pair(self.make_pair, self.seed)
        RunFolder(self.folder).load_weights(pair)
        return pair.eval()

    def _train(self, pair: Pair) -> Run:
        def train(epochs: int) -> Run:
            with warnings.catch_warnings():
                # make_pair makes the pair again, and of local functions the comparison itself has warned
                warnings.filterwarnings("ignore", "this pair cannot be rebuilt")
                warnings.filterwarnings("ignore", r"[\s\S]*cannot be recognised in another process")
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
        # an epoch tells how many fit into the budget; most of them, and then the rest, one look more at the
        # clock
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
            "values": data_identity(self.data),
            "pair": _fingerprint_of_pair(pair),
            **{name: str(text_of(value)) for name, value in sorted(self.options.items())},
        }
        budget = {"epochs": self.epochs, "seconds": self.seconds}
        judging = {
            "data": fingerprint(self.judging.data),
            "values": _checksum(self.judging.data),
            "num_particles": self.judging.num_particles,
            "seed": self.judging.seed,
        }
        settings: dict[str, Any] = json.loads(
            json.dumps(
                {"training": training, "budget": budget, "judging": judging},
                default=lambda number: number.item(),  # NumPy's
            )
        )
        return settings

    def _computes(self, pair: Pair) -> dict[str, float] | None:
        """What the untrained pair computes on the first data."""
        train = self.data.train if isinstance(self.data, DataSet) else self.data
        with random_numbers(0, torch.device("cpu")):
            example = train.take(8).tensors()
        return log_densities(pair, [x.to(pair.device) for x in example])

    def _refuse_other(self, known: Mapping[str, Any], wanted: Mapping[str, Any]) -> None:
        changed = [
            name for name in {**known, **wanted} if not same_setting(known.get(name), wanted.get(name))
        ]
        if changed:
            listed = "; ".join(f"{name} was {known.get(name)!r}, is {wanted.get(name)!r}" for name in changed)
            raise RunError(
                f"{self.folder} holds a run of another comparison: {listed}. Choose another run_dir, or "
                f"delete that folder"
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


def _checksum(data: Split | tuple[Tensor, ...]) -> Any:
    if isinstance(data, Split):
        return split_identity(data)
    return digest_of_tensors({str(number): x for number, x in enumerate(data)})[:16]


def _completed(known: Mapping[str, Any], settings: Mapping[str, Any]) -> dict[str, Any]:
    """Known settings of an earlier version, with what it did not write yet."""
    completed = dict(known)
    for part in ("training", "judging"):
        if isinstance(known.get(part), Mapping):
            completed[part] = {"values": settings[part]["values"], **known[part]}
    completed.setdefault("training", settings["training"])
    return completed


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
        "ess": found.ess.numpy(),
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
    except Exception as error:  # zipfile, zlib and NumPy each have their own words
        raise RunError(
            f"{folder / SCORE} is damaged ({error}): delete it, and the run is judged again"
        ) from error
    return Score(arrays, RunFolder(folder).read_metrics())


def _read_settings(folder: Path) -> dict[str, Any]:
    path = folder / SETTINGS
    if not path.is_file():
        return {}
    try:
        settings = json.loads(path.read_text(encoding="utf-8"))
        if not isinstance(settings, dict) or not isinstance(settings.get("training"), dict):
            raise ValueError("it holds no settings")
    except (ValueError, OSError, RecursionError) as error:
        raise RunError(f"{path} is damaged ({error}): delete {folder}, and the run starts afresh") from error
    return check_json(settings, path)


def _write_settings(folder: RunFolder, settings: Mapping[str, Any]) -> None:
    folder.write_text(SETTINGS, sealed_json(settings))
