"""fit: the training loop."""

from __future__ import annotations

import math
import numbers
import time
import warnings
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import pandas as pd
import torch
from pyro.infer import ELBO as PyroELBO
from pyro.poutine.util import prune_subsample_sites
from torch import Tensor, nn

from ppl_vae.capture import worth_capturing
from ppl_vae.capture.numerics import without_denormals
from ppl_vae.capture.rounding import MatmulPrecision
from ppl_vae.data import DataSet, Split, as_split
from ppl_vae.estimators import Estimator
from ppl_vae.evaluate.loop import check_pair_type
from ppl_vae.faults import traced
from ppl_vae.fit_options import check_options, defaults_of
from ppl_vae.isolation import (
    one_thread,
    python_random_numbers,
    python_random_numbers_kept,
    questioning,
    random_numbers,
    validation,
    without_nvml,
)
from ppl_vae.kl import KL, KLSchedule
from ppl_vae.loggers import open_loggers
from ppl_vae.optimizers import make_optimizer, make_schedule
from ppl_vae.pair import Pair
from ppl_vae.particles import draw
from ppl_vae.precision import mixed_precision
from ppl_vae.progress import show_progress
from ppl_vae.run_folder import CHECKPOINT, CONFIG, RunError, RunFolder
from ppl_vae.runs.identity import identity
from ppl_vae.runs.loading import pair_config, why_not_rebuildable
from ppl_vae.runs.naming import text_of, warn_of_local
from ppl_vae.sites import latent_names
from ppl_vae.step import Capture, NotFinite, Step, name_bad_site, validate, validation_size
from ppl_vae.subsampling import check_sizes, seen_by
from ppl_vae.testing import check_pair
from ppl_vae.training import Learner, Row, Training

if TYPE_CHECKING:  # importing it takes as long as torch
    from lightning_fabric import Fabric

Precision = Literal["auto", "float32", "bf16"]


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
    """

    pair: Pair
    history: pd.DataFrame
    stopped: str
    best_epoch: int | None
    path: Path | None


@one_thread
@python_random_numbers_kept
def fit(
    pair: Pair,
    estimator: PyroELBO,
    data: DataSet | Split | Tensor,
    *,
    epochs: int = 100,
    batch_size: int = 100,
    learning_rate: float = 1e-3,
    schedule: str | Callable[[float], float] = "constant",
    optimizer: str | Callable[..., torch.optim.Optimizer] = "adam",
    weight_decay: float | None = None,
    clip_norm: float | None = None,
    kl: KL = 1.0,
    patience: int | None = None,
    validate_every: int = 1,
    device: str | torch.device = "auto",
    precision: Precision = "auto",
    fabric: Fabric | None = None,
    seed: int = 0,
    run_dir: str | Path | None = None,
    resume: bool = False,
    checkpoint_every: int = 1,
    capture: Capture = "auto",
    matmul_precision: MatmulPrecision = "float32",
    loggers: Sequence[str] = (),
    progress: bool = True,
    check: bool = True,
) -> Run:
    """Train a pair, in place, by stochastic gradient ascent on a bound.

    The random numbers of a training come from `seed` alone; the caller's are left as they were. That holds
    for torch's, and for those of Python and NumPy from which a program of one's own may draw.

    One thread at a time: a `fit`, an evaluation or a question in another thread waits until this one has
    ended, and both come to what they would have come to one after the other (`ppl_vae.isolation`, which has
    the lock, `ONE_THREAD`, for what a thread does with Pyro or torch's random numbers by itself, such as building a
    pair). Trainings side by side are processes, as in `compare(..., n_jobs=2)`.

    Args:
        pair: the pair; it is moved to `device`.
        estimator: one of `ppl_vae.estimators`, or Pyro's own `Trace_ELBO()`, `RenyiELBO(...)` etc.
        data: a `DataSet` (its train part is trained on, its valid part validated on), or a `Split`
            or tensor to train on without validation.
        epochs: passes over the training data.
        batch_size: data in a gradient step; the last of an epoch may be smaller.
        learning_rate: the optimizer's, before the schedule.
        schedule: "constant", "cosine" or "linear" (both to zero), "iwae" (the eight stages of
            arXiv:1509.00519), or a function of the training's fraction in [0, 1] to a factor.
        optimizer: "adam", "adamw", "adamax", "sgd", or a function of (parameters, lr=...), which gets
            `weight_decay` too where there is one.
        weight_decay: the optimizer's; by default 0 for one by name, and a function's own.
        clip_norm: the largest norm of the gradient of the loss in nats per datum; None for any.
        kl: what is done to the KL term: a weight, or a treatment of `ppl_vae.kl` such as `LinearWarmup`,
            `FreeBits` or `TotalCorrelation`; or these by latent site.
        patience: stop after this many epochs without a better validation bound, and restore the best
            weights; None trains to the end and keeps the last weights.
        validate_every: epochs between validations.
        device: "auto", "cpu", "cuda", "cuda:1", "mps", or a torch.device.
        precision: "float32"; "bf16" runs the nets in bfloat16 and everything else in float32;
            "auto" is "bf16" on a GPU that has it and "float32" elsewhere.
        fabric: a launched `lightning_fabric.Fabric` for several devices; it replaces `device`.
        seed: of the data's order and of every random number.
        run_dir: a folder for the run: config, weights, metrics, checkpoint.
        resume: continue from the folder's checkpoint, where there is one.
        checkpoint_every: epochs between checkpoints.
        capture: True runs the step as one compiled graph, see `ppl_vae.capture`: less time a step, after half
            a minute to compile it. "auto" does so for trainings of 20,000 steps and more, which gain by it, and
            warns where it cannot be done; True makes that an error; False never does. A smaller last batch
            of an epoch runs as written. Captured or not, the training is the same but for rounding.
        matmul_precision: "bf16" rounds the factors of a captured step's matrix products and convolutions to
            bfloat16, on a CPU; sums, log-probabilities and all else are float32. It takes less time only on
            a processor that has such products (AVX512-BF16, AMX), and needs `capture=True`.
        loggers: "tensorboard", "wandb", "mlflow"; metrics.csv is always written.
        progress: show a progress bar; where standard error is no terminal, a line an epoch at most every
            ten seconds.
        check: run `check_pair` first.

    Raises:
        PairError: for a pair that breaks the contract.
        CaptureError: with `capture=True`, for a step that cannot be captured.
        ValueError: for an option out of range, one that would do nothing beside the others (`patience`
            without validation data, `weight_decay` for an optimizer that takes none), or a treatment of
            the KL term that the estimator has no place for.
        RunError: for a folder that holds another run, that another process writes to, that cannot be written,
            or whose checkpoint is damaged or of other settings, another pair or other data.
        TrainingError: when the loss stops being finite; names the step and the site.
    """
    check_pair_type(pair)
    settings = _settings(locals())
    epochs, batch_size, seed = (int(settings[name]) for name in ("epochs", "batch_size", "seed"))
    fabric = fabric or _fabric(str(device))
    train, valid = _parts(data, fabric)
    pair.to(fabric.device)
    with random_numbers(seed, fabric.device):
        example = _example(pair, train, valid, estimator, batch_size)
    pair.remember(example)
    if check:
        check_pair(pair, *example, estimator=estimator)
    steps_per_epoch = math.ceil(len(train) / batch_size)
    with questioning(pair, seed, fabric.device):
        data_size = len(train) * fabric.world_size
        treatment = _kl_schedule(kl, pair, estimator, example, epochs, steps_per_epoch, data_size)
    factor = make_schedule(schedule)
    auxiliary = estimator.auxiliary.to(fabric.device) if isinstance(estimator, Estimator) else nn.Module()
    parameters = [p for module in (pair, auxiliary) for p in module.parameters() if p.requires_grad]
    torch_optimizer = make_optimizer(optimizer, parameters, learning_rate, weight_decay)
    folder = RunFolder(run_dir) if run_dir is not None and fabric.is_global_zero else None
    learners: dict[str, Learner] = {"estimator": auxiliary}
    if treatment is not None:
        learners["kl"] = treatment
    training = Training(
        pair,
        torch_optimizer,
        settings,
        folder,
        patience,
        learners,
        net_dtype=_net_dtype(precision, fabric.device),
    )
    config: dict[str, Any] = {}
    if folder is not None:
        config = pair_config(pair, example)
        training.example, training.identity = (
            example,
            identity(
                pair,
                config["pair"],
                data,
                estimator,
                kl,
                torch_optimizer,
                schedule,
                factor,
                fabric.world_size,
            ),
        )
        name = {"name": data.name} if isinstance(data, DataSet) else {}
        config |= {"data": {**name, **training.identity["data"]}, "fit": settings}
        _warn_of_the_end(config, {"schedule": schedule, "optimizer": optimizer})
    on_cpu = fabric.device.type == "cpu"  # elsewhere, looking at a loss would make the device wait
    given: Tensor | tuple[Tensor, ...] = example

    own = seed + fabric.global_rank
    with random_numbers(own, fabric.device), python_random_numbers(own), _owned(folder, resume):
        if folder is not None and resume and folder.has(CHECKPOINT):
            training.resume()
        if folder is not None:  # only now: a folder whose checkpoint does not fit must stay as it was
            folder.write_config(config)
        total = epochs * steps_per_epoch
        long = capture is True or worth_capturing(total, fabric.device)
        step = Step(
            pair,
            estimator,
            torch_optimizer,
            clip_norm=clip_norm,
            check_finite=on_cpu,
            fabric=fabric,
            kl=treatment,
            capture=capture if long else False,
            capture_size=min(batch_size, len(train)),
            matmul_precision=matmul_precision,
        )
        writers = open_loggers(loggers, folder.path if folder else None, settings)
        silent = not (progress and fabric.is_global_zero)
        bar = show_progress(total, show=not silent, initial=training.step, leave=True, milestones=True)
        if step.captured is not None:
            bar.describe("compiling the step")
        quiet = validation(False)  # check_pair has validated; a hot loop need not again
        half = mixed_precision(pair.model, pair.guide, dtype=_net_dtype(precision, fabric.device))
        try:
            with quiet, half, without_denormals(), without_nvml():
                while training.epoch < epochs and not training.stopped:
                    started = time.perf_counter()
                    pair.train()
                    order = torch.Generator().manual_seed(seed + training.epoch)
                    for given in _batches(train, batch_size, order):
                        if schedule != "constant":
                            step.set_learning_rate(learning_rate * factor(training.step / total))
                        step.set_epoch(training.step / steps_per_epoch)
                        step.on(train, given) if isinstance(given, Tensor) else step(*given)
                        training.step += 1
                        bar.update()
                    training.epoch += 1
                    last = training.epoch == epochs
                    saving = folder is not None and training.epoch % checkpoint_every == 0
                    step.verify(at_once=last or saving)
                    row: Row = {
                        "epoch": training.epoch,
                        "step": training.step,
                        "seconds": time.perf_counter() - started,
                        "learning_rate": torch_optimizer.param_groups[0]["lr"],
                        **{f"train_{name}": mean for name, mean in step.pop_means().items()},
                    }
                    if step.captured is not None:
                        row["capture_seconds"] = step.captured.seconds
                    if not math.isfinite(row["train_bound"]):
                        raise NotFinite(f"the epoch's mean bound is {row['train_bound']}")
                    if not training.is_finite():
                        raise NotFinite("the epoch's last step left parameters that are not finite")
                    if valid is not None and (last or training.epoch % validate_every == 0):
                        means = validate(pair, estimator, valid, seed)
                        row |= {f"valid_{name}": mean for name, mean in means.items()}
                    training.finish_epoch(row)
                    if last or training.stopped or training.epoch % checkpoint_every == 0:
                        training.save()
                    for writer in writers:
                        writer.log(row, training.epoch)
                    bar.line(_summary(row, epochs))
        except NotFinite as error:
            where = name_bad_site(pair, train.batch(given) if isinstance(given, Tensor) else given)
            training.restore_last_good()
            training.save_results()
            raise TrainingError(
                f"training stopped in step {training.step + 1}, epoch {training.epoch + 1}: {error}. Not "
                f"finite first: {where}. The pair keeps its last good weights. Try a smaller "
                f"learning_rate, clip_norm=..., or a larger floor under the scales"
            ) from error
        except KeyboardInterrupt:
            training.stopped = "interrupted"
            step.verify()  # what is written now must be of these programs
        finally:
            bar.close()
            for writer in writers:
                writer.close()
        training.finish()
    return Run(
        pair.eval(),
        pd.DataFrame(training.history),
        training.stopped or "finished",
        training.best_epoch or None,
        folder.path if folder else None,
    )


def _settings(options: dict[str, Any]) -> dict[str, Any]:
    """`fit`'s options as plain values, checked where nothing later does."""
    check_options(options, defaults_of(fit))
    if options["run_dir"] is not None:
        RunFolder(options["run_dir"])  # refuses what is no path
    estimator = options["estimator"]
    plain = {name: value for name, value in options.items() if name not in ("pair", "data", "fabric")}
    plain["estimator"] = repr(estimator) if isinstance(estimator, Estimator) else _stock(estimator)
    plain["data"] = repr(options["data"]) if not isinstance(options["data"], Tensor) else "a tensor"
    if options["weight_decay"] is None and isinstance(options["optimizer"], str):
        plain["weight_decay"] = 0.0
    return {name: _simple(value) for name, value in plain.items()}


def _simple(value: Any) -> str | int | float | bool | None:
    """A value as YAML holds it; NumPy's numbers become Python's."""
    if value is None or isinstance(value, str | bool):
        return value
    if isinstance(value, numbers.Integral):
        return int(value)
    return float(value) if isinstance(value, numbers.Real) else text_of(value)


def _stock(estimator: PyroELBO) -> str:
    """One of Pyro's estimators as text; they have no repr of their own."""
    named = {name: getattr(estimator, name, None) for name in ("alpha", "num_particles")}
    arguments = ", ".join(f"{name}={value}" for name, value in named.items() if value is not None)
    return f"{type(estimator).__module__}.{type(estimator).__qualname__}({arguments})"


def _fabric(device: str) -> Fabric:
    from lightning_fabric import Fabric

    kind, _, index = device.partition(":")
    available = {
        "auto": True,
        "cpu": True,
        "cuda": torch.cuda.is_available(),
        "mps": torch.backends.mps.is_available(),
    }
    if not available.get(kind, False):
        raise ValueError(
            f"device {device!r} is not available here: choose from "
            f"{[name for name, there in available.items() if there]}"
        )
    count = {"cuda": torch.cuda.device_count()}.get(kind, 1)
    if index and int(index) >= count:
        raise ValueError(f"device {device!r} is not available here: {kind} has {count}, counted from 0")
    return Fabric(accelerator=kind, devices=[int(index)] if index and kind != "cpu" else 1)


def _net_dtype(precision: str, device: torch.device) -> torch.dtype | None:
    automatic = precision == "auto" and device.type == "cuda" and torch.cuda.is_bf16_supported(False)
    return torch.bfloat16 if precision == "bf16" or automatic else None


def _parts(data: DataSet | Split | Tensor, fabric: Fabric) -> tuple[Split, Split | None]:
    train, valid = (data.train, data.valid) if isinstance(data, DataSet) else (as_split(data), None)
    if fabric.world_size > 1:
        size = len(train) // fabric.world_size * fabric.world_size  # equal shares: equal steps
        train = train[fabric.global_rank : size : fabric.world_size]
    return train.to(fabric.device), None if valid is None else valid.to(fabric.device)


def _batches(
    train: Split, batch_size: int, order: torch.Generator
) -> Iterable[Tensor] | Iterable[tuple[Tensor, ...]]:
    """A pass over the data: indices where the step makes the batch itself, else batches, read ahead."""
    pass_over = train.indices if train.resident else train.batches
    return pass_over(batch_size, shuffle_generator=order)


def _example(
    pair: Pair, train: Split, valid: Split | None, estimator: PyroELBO, batch_size: int
) -> tuple[Tensor, ...]:
    """A few data, or a whole batch of them for programs that subsample it; its sizes are checked first."""
    example = train.take(8).tensors()
    if not seen_by(pair, example).subsamples:
        return example
    parts = [(train, batch_size), *([] if valid is None else [(valid, validation_size(estimator))])]
    for name, (part, size) in zip(("data", "validation data"), parts):
        sizes = {min(size, len(part)), len(part) % size} - {0}
        check_sizes(
            pair, [part.batch(torch.arange(each)) for each in sorted(sizes)], f"{name} in batches of {size}"
        )
    return train.batch(torch.arange(min(batch_size, len(train))))


def _kl_schedule(
    kl: KL,
    pair: Pair,
    estimator: PyroELBO,
    example: tuple[Tensor, ...],
    epochs: int,
    steps_per_epoch: int,
    data_size: int,
) -> KLSchedule | None:
    guide_trace = prune_subsample_sites(traced(pair.guide, example, "guide"))
    schedule = KLSchedule(kl, tuple(latent_names(guide_trace)), epochs, steps_per_epoch)
    if not schedule.changes_anything:
        return None
    schedule.check(estimator)
    schedule.make_penalties(draw(pair.model, pair.guide, example), data_size)
    return schedule


def _warn_of_the_end(config: Mapping[str, Any], functions: Mapping[str, Any]) -> None:
    """Say before the first step what the run's folder will not do once the training has ended."""
    if why := why_not_rebuildable(config):
        warnings.warn(why, UserWarning, stacklevel=3)
    warn_of_local(functions, "this run cannot be resumed there", stacklevel=4)


@contextmanager
def _owned(folder: RunFolder | None, resume: bool) -> Iterator[None]:
    """The folder is this run's alone, and free where it does not resume."""
    if folder is None:
        yield
        return
    with folder.owned():
        if not resume and folder.has(CONFIG):
            raise RunError(
                f"{folder.path} already holds a run: choose another run_dir, or continue it with resume=True"
            )
        yield


def _summary(row: Row, epochs: int) -> str:
    bounds = [f"{name} {row[name]:.2f}" for name in ("train_bound", "valid_bound") if name in row]
    return f"epoch {int(row['epoch'])}/{epochs}, " + ", ".join(bounds).replace("_", " ") + " nats"
