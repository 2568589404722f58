"""Training: how far a training is, its best and its last good weights, and how it is saved and resumed."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any, Protocol

import torch
from torch import Tensor

from ppl_vae.core.pair import Pair
from ppl_vae.runs import CHECKPOINT, CONFIG, RunError, RunFolder
from ppl_vae.runs.behaviour import changed, signature
from ppl_vae.runs.identity import changes
from ppl_vae.runs.naming import LOCAL, same_setting
from ppl_vae.runs.weights import check_finite, shortened
from ppl_vae.train.options import MAY_CHANGE
from ppl_vae.train.precision import mixed_precision

Row = dict[str, float]
Weights = dict[str, Tensor]


class Learner(Protocol):
    """What has a state to save and to load, as torch's modules and optimizers have."""

    def state_dict(self) -> dict[str, Any]: ...
    def load_state_dict(self, state: Any, /) -> Any: ...


class Training:
    """The state of a training that is not in the pair or the optimizer.

    Args:
        pair, optimizer: what is trained, and by what.
        settings: `fit`'s options, which a continuation must share.
        identity: what else it must share: the pair, the data, the parts of the options, by
            `ppl_vae.runs.identity`.
        example: a batch on which the pair of a continuation must compute what this one does.
        net_dtype: half precision of the nets, or None.
        folder: where the run is kept, or None.
        patience: how many epochs may pass without a better validation bound; None for any number.
        learners: what else has a state that a continuation needs, by name.
    """

    def __init__(
        self,
        pair: Pair,
        optimizer: torch.optim.Optimizer,
        settings: Mapping[str, Any],
        *,
        folder: RunFolder | None = None,
        patience: int | None = None,
        learners: Mapping[str, Learner] | None = None,
        identity: Mapping[str, Any] | None = None,
        example: Sequence[Tensor] = (),
        net_dtype: torch.dtype | None = None,
    ) -> None:
        self.pair = pair
        self.optimizer = optimizer
        self.settings = dict(settings)
        self.folder = folder
        self.patience = patience
        self.learners = dict(learners or {})
        self.identity = dict(identity or {})
        self.example = tuple(example)
        self.net_dtype = net_dtype
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
                "identity": self.identity,
                "computes": signature(self.pair, self.example, self.net_dtype),
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
            }
        )
        self.folder.tell()

    def resume(self) -> None:
        """Become what the folder's checkpoint holds, random numbers included.

        Raises:
            RunError: when the checkpoint is damaged, or belongs to other settings, another pair or other
                data; the pair has its own weights then.
        """
        assert self.folder is not None
        state = self.folder.load_checkpoint()
        before = _copy(self.pair)
        try:
            self._check_settings(state["settings"], state["epoch"])
            self._check_identity(state, state["epoch"])
            check_finite(self.pair, state["weights"], str(self.folder.path / CHECKPOINT))
            self.pair.load_state_dict(state["weights"])
            self._check_behaviour(state.get("computes"), state["epoch"])
            self.optimizer.load_state_dict(state["optimizer"])
            for name, learner in self.learners.items():
                learner.load_state_dict(state["learners"][name])
            for name in ("epoch", "step", "history", "best_bound", "best_epoch", "stopped"):
                setattr(self, name, state[name])
            self._best = state["best"]
            random, random_cuda = state["random"], state["random_cuda"]
        except (KeyError, RuntimeError, ValueError, TypeError, AttributeError) as error:
            _put_back(self.pair, before)
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
        moved = self.settings["schedule"] != "constant"
        free = set(MAY_CHANGE) - ({"epochs"} if moved else set())
        names = [name for name in {**saved, **self.settings} if name not in free]
        different = [name for name in names if not same_setting(saved.get(name), self.settings.get(name))]
        if different:
            assert self.folder is not None
            listed = "; ".join(f"{n} was {saved.get(n)!r}, is {self.settings.get(n)!r}" for n in different)
            local = any(LOCAL in str(saved.get(n)) or " at 0x" in str(saved.get(n)) for n in different)
            why = (
                " (a lambda, or a function inside of another, cannot be recognised later: define it at the "
                "top level of a file)"
                if local
                else ""
            )
            raise RunError(
                f"{self.folder.path} was trained (to epoch {epoch}) with other settings: {listed}{why}. "
                f"Resume with the same ones, or start in another folder"
            )

    def _check_identity(self, state: Mapping[str, Any], epoch: int) -> None:
        assert self.folder is not None
        saved = state.get("identity")
        if saved is None and self.folder.has(CONFIG):  # of a version that kept the pair's tree alone
            trees = self.folder.read_config().get("pair")
            rebuildable = isinstance(trees, Mapping) and trees.get("rebuildable") is not False
            saved = {"pair": {"tree": trees}} if rebuildable else {}
        if others := changes(saved or {}, self.identity):
            raise RunError(
                f"{self.folder.path} was trained (to epoch {epoch}) with other settings, on other data or "
                f"with another pair: {shortened(others)}. Resume with the same ones, or start in another "
                "folder"
            )

    def _check_behaviour(self, saved: Mapping[str, Any] | None, epoch: int) -> None:
        assert self.folder is not None
        if not saved:
            return
        with mixed_precision(self.pair.model, self.pair.guide, dtype=self.net_dtype):
            now = signature(self.pair, self.example, self.net_dtype)
        if differing := changed(saved, now):
            raise RunError(
                f"{self.folder.path} was trained (to epoch {epoch}) with another pair, though its weights "
                "have the same shapes: with the run's weights and on the first data, site "
                f"{shortened(differing)}. Resume with the pair as it was, or start in another folder"
            )


@torch.no_grad()
def _put_back(pair: Pair, weights: Weights) -> None:
    for name, value in pair.state_dict().items():
        value.copy_(weights[name])


def _copy(pair: Pair) -> Weights:
    return {name: value.detach().clone() for name, value in pair.state_dict().items()}
