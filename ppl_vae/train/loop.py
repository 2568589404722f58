"""Loop: the second part of `fit`, from one batch to the next and from one epoch to the next."""

from __future__ import annotations

import math
import time
from collections.abc import Iterable
from contextlib import ExitStack

import torch
from torch import Tensor

from ppl_vae.capture.worth import worth_trying
from ppl_vae.compiler.denormals import without_denormals
from ppl_vae.core.isolation import validation, without_nvml
from ppl_vae.terminal.progress import show_progress
from ppl_vae.train.loggers import open_loggers
from ppl_vae.train.not_finite import NotFinite
from ppl_vae.train.optimizers import make_schedule
from ppl_vae.train.precision import mixed_precision
from ppl_vae.train.prepare import Prepared
from ppl_vae.train.state import Row
from ppl_vae.train.step import Step
from ppl_vae.train.validation import validate


class Loop:
    """The epochs of a prepared training.

    Attributes:
        step: the gradient step.
        given: the batch of now, or its indices.
    """

    def __init__(self, prepared: Prepared) -> None:
        options, fabric, training = prepared.options, prepared.fabric, prepared.training
        self.prepared, self.options, self.training = prepared, options, training
        self.factor = make_schedule(options.schedule)
        captures = options.capture is True or worth_trying(prepared.total, fabric.device)
        self.step = Step(
            prepared.pair,
            prepared.estimator,
            training.optimizer,
            clip_norm=options.clip_norm,
            skip_norm=options.skip_norm,
            check_finite=fabric.device.type
            == "cpu",  # elsewhere, looking at a loss would make the device wait
            fabric=fabric,
            kl=prepared.kl,
            capture=options.capture if captures else False,
            steps=None if options.capture is True else prepared.steps_by_size,
            matmul_precision=options.matmul_precision,
        )
        folder = prepared.folder
        self.writers = open_loggers(options.loggers, folder.path if folder else None, training.settings)
        shown = options.progress and fabric.is_global_zero
        self.bar = show_progress(
            prepared.total, show=shown, initial=training.step, leave=True, milestones=True
        )
        if self.step.captured is not None:
            self.bar.describe("compiling the step")
        self.given: Tensor | tuple[Tensor, ...] = prepared.example

    def run(self) -> None:
        """Train to the end.

        Raises:
            NotFinite: for a loss or parameters that are NaN or infinite.
        """
        pair, training = self.prepared.pair, self.training
        self._tell(self.prepared.hints.given)
        with ExitStack() as stack:
            stack.enter_context(validation(False))  # check_pair has validated; a hot loop need not again
            stack.enter_context(mixed_precision(pair.model, pair.guide, dtype=training.net_dtype))
            stack.enter_context(without_denormals())
            stack.enter_context(without_nvml())
            while training.epoch < self.options.epochs and not training.stopped:
                self._epoch()

    def batch(self) -> tuple[Tensor, ...]:
        """The batch of now."""
        given = self.given
        return self.prepared.train.batch(given) if isinstance(given, Tensor) else given

    def close(self) -> None:
        """Put away the progress bar and the loggers."""
        self.bar.close()
        for writer in self.writers:
            writer.close()

    def _epoch(self) -> None:
        options, training = self.options, self.training
        started = time.perf_counter()
        self._steps()
        training.epoch += 1
        last = training.epoch == options.epochs
        saving = self.prepared.folder is not None and training.epoch % options.checkpoint_every == 0
        self.step.verify(at_once=last or saving)
        row = self._row(started)
        if self.prepared.valid is not None and (last or training.epoch % options.validate_every == 0):
            means = validate(self.prepared.pair, self.prepared.estimator, self.prepared.valid, options.seed)
            row |= {f"valid_{name}": mean for name, mean in means.items()}
        training.finish_epoch(row)
        if last or training.stopped or training.epoch % options.checkpoint_every == 0:
            training.save()
        for writer in self.writers:
            writer.log(row, training.epoch)
        self.bar.line(_summary(row, options.epochs))
        self._tell(self.prepared.hints.after(row))

    def _tell(self, hints: Iterable[str]) -> None:
        for hint in hints:
            self.bar.note(f"hint: {hint}")

    def _steps(self) -> None:
        options, training, step = self.options, self.training, self.step
        total, steps_per_epoch = self.prepared.total, self.prepared.steps_per_epoch
        self.prepared.pair.train()
        for given in self._batches():
            self.given = given
            if options.schedule != "constant":
                step.set_learning_rate(options.learning_rate * self.factor(training.step / total))
            step.set_epoch(training.step / steps_per_epoch)
            step.on(self.prepared.train, given) if isinstance(given, Tensor) else step(*given)
            training.step += 1
            self.bar.update()

    def _batches(self) -> Iterable[Tensor] | Iterable[tuple[Tensor, ...]]:
        """A pass over the data: indices where the step makes the batch itself, else batches, read ahead."""
        train = self.prepared.train
        order: torch.Generator | None = torch.Generator().manual_seed(self.options.seed + self.training.epoch)
        if self.prepared.pair.fixed_rows is not None:  # each datum has parameters in its place
            order = None
        pass_over = train.indices if train.resident else train.batches
        return pass_over(self.options.batch_size, shuffle_generator=order)

    def _row(self, started: float) -> Row:
        """The metrics of the epoch's steps."""
        row: Row = {
            "epoch": self.training.epoch,
            "step": self.training.step,
            "seconds": time.perf_counter() - started,
            "learning_rate": self.training.optimizer.param_groups[0]["lr"],
            **{f"train_{name}": mean for name, mean in self.step.pop_means().items()},
        }
        if self.step.captured is not None:
            row["capture_seconds"] = self.step.captured.seconds
        if not math.isfinite(row["train_bound"]):
            raise NotFinite(f"the epoch's mean bound is {row['train_bound']}")
        if not self.training.is_finite():
            raise NotFinite("the epoch's last step left parameters that are not finite")
        return row


def _summary(row: Row, epochs: int) -> str:
    bounds = [f"{name} {row[name]:.2f}" for name in ("train_bound", "valid_bound") if name in row]
    return f"epoch {int(row['epoch'])}/{epochs}, " + ", ".join(bounds).replace("_", " ") + " nats"
