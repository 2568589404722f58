"""Training: how far a training is, its best and its last good weights, and how it is saved and resumed."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any, Protocol

import torch
from torch import Tensor

from ppl_vae.capture import routes
from ppl_vae.pair import Pair
from ppl_vae.run_folder import RunError, RunFolder

Row = dict[str, float]
Weights = dict[str, Tensor]

# what may differ between a run and its continuation without changing what is computed
_FREE = ("checkpoint_every", "capture", "progress", "loggers", "device", "check", "run_dir", "resume")


class Learner(Protocol):
    """What has a state to save and to load, as torch's modules and optimizers have."""

    def state_dict(self) -> dict[str, Any]: ...
    def load_state_dict(self, state: Any, /) -> Any: ...


class Training:
    """The state of a training that is not in the pair or the optimizer.

    Args:
        pair, optimizer: what is trained, and by what.
        settings: `fit`'s options, which a continuation must share.
        folder: where the run is kept, or None.
        patience: how many epochs may pass without a better validation bound; None for any number.
        learners: what else has a state that a continuation needs, by name.
    """

    def __init__(
        self,
        pair: Pair,
        optimizer: torch.optim.Optimizer,
        settings: Mapping[str, Any],
        folder: RunFolder | None,
        patience: int | None,
        learners: Mapping[str, Learner] | None = None,
    ) -> None:
        self.pair = pair
        self.optimizer = optimizer
        self.settings = dict(settings)
        self.folder = folder
        self.patience = patience
        self.learners = dict(learners or {})
        self.epoch = 0
        self.step = 0
        self.history: list[Row] = []
        self.best_bound = -math.inf
        self.best_epoch = 0
        self.stopped = ""
        self._best: Weights | None = None
        self._last_good = _copy(pair)

    def finish_epoch(self, row: Row) -> None:
        """Take an epoch's metrics: remember the weights, and decide whether to stop."""
        self.history.append(row)
        self._last_good = _copy(self.pair)
        bound = row.get("valid_bound")
        if bound is None:
            return
        if bound > self.best_bound:
            self.best_bound, self.best_epoch = bound, self.epoch
            self._best = self._last_good if self.patience is not None else None
        elif self.patience is not None and self.epoch - self.best_epoch >= self.patience:
            self.stopped = "early"

    def is_finite(self) -> bool:
        """Whether every parameter of the pair is."""
        return all(bool(parameter.isfinite().all()) for parameter in self.pair.parameters())

    def restore_last_good(self) -> None:
        """The weights of the last epoch's end, if those of now are no longer finite."""
        if not self.is_finite():
            self.pair.load_state_dict(self._last_good)

    def restore_best(self) -> None:
        """The weights of the best validation bound, where early stopping keeps them."""
        if self._best is not None:
            self.pair.load_state_dict(self._best)

    def finish(self) -> None:
        """The weights that are kept, in the pair and in the folder."""
        if self.folder is not None and self.folder.is_lost():
            self.save()  # the checkpoint is gone too
        self.restore_last_good()
        if self.stopped != "interrupted":
            self.restore_best()
        self.save_results()

    def save_results(self) -> None:
        """Write weights and metrics, each atomically."""
        if self.folder is not None:
            self.folder.save_results(self.pair, self.history)
            self.folder.tell()

    def save(self) -> None:
        """Write weights, metrics and a checkpoint of this moment, each atomically."""
        if self.folder is None:
            return
        self.folder.save_results(self.pair, self.history)
        cuda = torch.cuda.get_rng_state(self.pair.device) if self.pair.device.type == "cuda" else None
        self.folder.save_checkpoint(
            {
                "settings": self.settings,
                "epoch": self.epoch,
                "step": self.step,
                "history": self.history,
                "best_bound": self.best_bound,
                "best_epoch": self.best_epoch,
                "stopped": self.stopped,
                "best": self._best,
                "weights": self.pair.state_dict(),
                "optimizer": self.optimizer.state_dict(),
                "learners": {name: learner.state_dict() for name, learner in self.learners.items()},
                "random": torch.get_rng_state(),
                "random_cuda": cuda,
                "routes": routes.chosen(),
            }
        )
        self.folder.tell()

    def resume(self) -> None:
        """Become what the folder's checkpoint holds, random numbers included.

        Raises:
            RunError: when the checkpoint belongs to other settings.
        """
        assert self.folder is not None
        state = self.folder.load_checkpoint()
        try:
            self._check_settings(state["settings"], state["epoch"])
            self.pair.load_state_dict(state["weights"])
            self.optimizer.load_state_dict(state["optimizer"])
            for name, learner in self.learners.items():
                learner.load_state_dict(state["learners"][name])
            for name in ("epoch", "step", "history", "best_bound", "best_epoch", "stopped"):
                setattr(self, name, state[name])
            self._best = state["best"]
            random, random_cuda = state["random"], state["random_cuda"]
            routes.remember(state["routes"])
        except (KeyError, RuntimeError, ValueError) as error:
            if isinstance(error, RunError):
                raise
            raise RunError(f"the checkpoint in {self.folder.path} does not fit this pair: {error}") from error
        torch.set_rng_state(random)
        if random_cuda is not None and self.pair.device.type == "cuda":
            torch.cuda.set_rng_state(random_cuda, self.pair.device)
        self._last_good = _copy(self.pair)
        if self.stopped == "interrupted" or self.epoch < self.settings["epochs"]:
            self.stopped = self.stopped if self.stopped == "early" else ""

    def _check_settings(self, saved: Mapping[str, Any], epoch: int) -> None:
        free = set(_FREE) | ({"epochs"} if self.settings["schedule"] == "constant" else set())
        names = [name for name in {**saved, **self.settings} if name not in free]
        changed = [name for name in names if saved.get(name) != self.settings.get(name)]
        if changed:
            assert self.folder is not None
            listed = "; ".join(f"{n} was {saved.get(n)!r}, is {self.settings.get(n)!r}" for n in changed)
            raise RunError(
                f"{self.folder.path} was trained (to epoch {epoch}) with other settings: {listed}. Resume "
                f"with the same ones, or start in another folder"
            )


def _copy(pair: Pair) -> Weights:
    return {name: value.detach().clone() for name, value in pair.state_dict().items()}
