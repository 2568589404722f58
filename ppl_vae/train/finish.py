"""The third part of `fit`: what is kept of a training that has ended, in whatever way."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import pandas as pd

from ppl_vae.core.pair import Pair
from ppl_vae.train.loop import Loop
from ppl_vae.train.not_finite import NotFinite, name_bad_site
from ppl_vae.train.prepare import Prepared


class TrainingError(RuntimeError):
    """A training that cannot go on; the pair keeps its last good weights."""


@dataclass
class Run:
    """What `fit` gives back.

    Attributes:
        pair: the trained pair, the same object that was given, in eval mode.
        history: one row an epoch: `epoch`, `step`, `seconds`, `learning_rate`, the means over the
            epoch's batches (`train_bound`, what is optimised; `train_elbo`, `train_reconstruction`,
            `train_kl_<site>`; `train_penalty_<site>` where `kl` adds one to the loss) and over the
            validation data (`valid_bound`, `valid_elbo`, ...). All of them in nats per datum.
        stopped: "finished", "early" or "interrupted".
        best_epoch: the epoch with the best validation bound; None without validation.
        path: the run's folder, or None.
        hints: what made it start badly or go badly, and what helps; each was said in the log too.
    """

    pair: Pair
    history: pd.DataFrame
    stopped: str
    best_epoch: int | None
    path: Path | None
    hints: tuple[str, ...] = ()


def failed(loop: Loop, error: NotFinite) -> TrainingError:
    """Keep the last good weights; the error that says where the numbers stopped being finite."""
    training = loop.training
    where = name_bad_site(loop.prepared.pair, loop.batch())
    training.restore_last_good()
    training.save_results()
    return TrainingError(
        f"training stopped in step {training.step + 1}, epoch {training.epoch + 1}: {error}. Not "
        f"finite first: {where}. The pair keeps its last good weights. Try a smaller "
        f"learning_rate, clip_norm=..., or a larger floor under the scales"
    )


def interrupted(loop: Loop) -> None:
    """Keep what was trained until now."""
    loop.training.stopped = "interrupted"
    loop.step.verify()  # what is written now must be of these programs


def run_of(prepared: Prepared) -> Run:
    """What `fit` gives back."""
    training, folder = prepared.training, prepared.folder
    return Run(
        prepared.pair.eval(),
        pd.DataFrame(training.history),
        training.stopped or "finished",
        training.best_epoch or None,
        folder.path if folder else None,
        tuple(prepared.hints.given),
    )
