"""FitOptions: every option of `fit`, with its type, default, check and help, written here alone."""

from __future__ import annotations

import difflib
import numbers
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import torch
from pyro.infer import ELBO as PyroELBO
from torch import Tensor

from ppl_vae.compiler.rewrites.rounding import MatmulPrecision
from ppl_vae.core.checks import check_choice, check_count, check_real, check_seed
from ppl_vae.data import DataSet, Split
from ppl_vae.kl import KL
from ppl_vae.penalties import Penalties
from ppl_vae.runs import RunFolder
from ppl_vae.runs.naming import text_of
from ppl_vae.train.loggers import check_loggers
from ppl_vae.train.optimizers import check_optimizer, make_schedule

if TYPE_CHECKING:  # importing it takes as long as torch
    from lightning_fabric import Fabric

Capture = bool | Literal["auto"]
Precision = Literal["auto", "float32", "bf16"]
Data = DataSet | Split | Tensor

_DEVICE = re.compile(r"[a-z]+(:\d+)?")


def _option(
    default: Any,
    check: Callable[[str, Any], None] | None = None,
    *,
    may_change: bool = False,
    per_run: bool = False,
    plain: bool = True,
) -> Any:
    """A field of `FitOptions`.

    Args:
        check: raises ValueError for a value, given its name and it.
        may_change: a run and its continuation may differ in it, since it changes nothing that is computed.
        per_run: where many runs are compared, the comparison chooses it.
        plain: it can be written as text, to a run's configuration and on a command line.
    """
    return field(
        default=default,
        metadata={"check": check, "may_change": may_change, "per_run": per_run, "plain": plain},
    )


def _switch(name: str, value: Any) -> None:
    if not isinstance(value, bool):
        raise ValueError(f"{name} must be True or False, got {value!r}")


def _count_or_none(name: str, value: Any) -> None:
    if value is not None:
        check_count(name, value, "or None")


def _positive(name: str, value: Any) -> None:
    check_real(name, value, above=True)


def _positive_or_none(name: str, value: Any) -> None:
    if value is not None:
        check_real(name, value, above=True)


def _not_negative_or_none(name: str, value: Any) -> None:
    if value is not None:
        check_real(name, value)


def _one_of(*allowed: Any) -> Callable[[str, Any], None]:
    return lambda name, value: check_choice(name, value, allowed)


def _device(name: str, value: Any) -> None:
    if not isinstance(value, torch.device) and not (isinstance(value, str) and _DEVICE.fullmatch(value)):
        raise ValueError(
            f"{name} must be 'auto', 'cpu', 'cuda', 'cuda:1', 'mps' or a torch.device, got {value!r}"
        )


def _folder(name: str, value: Any) -> None:
    if value is not None:
        RunFolder(value)  # refuses what is no path


@dataclass(frozen=True, kw_only=True)
class FitOptions:
    """The options of `fit`; each is one of its keywords.

    Args:
        epochs: passes over the training data.
        batch_size: data in a gradient step; the last of an epoch may be smaller.
        learning_rate: the optimizer's, before the schedule.
        schedule: of the learning rate: "constant", "cosine" or "linear" (both to zero), "iwae" (the eight
            stages of arXiv:1509.00519), or a function of the training's fraction in [0, 1] to a factor.
        optimizer: "adam", "adamw", "adamax", "sgd", or a function of (parameters, lr=...), which gets
            `weight_decay` too where there is one.
        weight_decay: the optimizer's; by default 0 for one by name, and a function's own.
        clip_norm: the largest norm of the gradient of the loss in nats per datum; None for any.
        skip_norm: leave a step out, weights and optimizer as they were, where the norm of that gradient is
            above this or not a number: a guard against the spikes of deep ladders. The history then has
            `train_skipped`, the share of the data in such steps, and `train_gradient_norm`; None for any.
        kl: what is done to the KL term: a weight, or a treatment of `ppl_vae.kl` such as `LinearWarmup`,
            `FreeBits` or `TotalCorrelation`; or these by latent site.
        penalties: what else is added to the loss at observed sites, such as `penalties.MSSSIM()`; or these by
            observed site. What is optimised is then no bound; `train_elbo` and `valid_bound` still are.
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
        capture: True runs the step as one compiled graph, see `ppl_vae.capture`: less time a step, after some
            seconds to compile it, for a smaller last batch of an epoch too. "auto" does so for each size of
            batch whose steps repay that, by their number and the work in one, and warns where it cannot be
            done; True makes that an error; False never does. Captured or not, the training is the same but
            for rounding and for where its noise is drawn from.
        matmul_precision: "bf16" rounds the factors of a captured step's matrix products and convolutions to
            bfloat16, on a CPU that has such products (AMX), which takes less time; on another it changes
            nothing. Sums, log-probabilities and all else are float32. It needs `capture=True`.
        loggers: "tensorboard", "wandb", "mlflow"; metrics.csv is always written.
        progress: show a progress bar; where standard error is no terminal, a line an epoch at most every
            ten seconds.
        check: run `check_pair` first.

    Raises:
        ValueError: names the option, its value, and the fix.
        ImportError: for a logger that is not installed.
    """

    epochs: int = _option(100, check_count, may_change=True, per_run=True)
    batch_size: int = _option(100, check_count)
    learning_rate: float = _option(1e-3, _positive)
    schedule: str | Callable[[float], float] = _option("constant")
    optimizer: str | Callable[..., torch.optim.Optimizer] = _option("adam")
    weight_decay: float | None = _option(None, _not_negative_or_none)
    clip_norm: float | None = _option(None, _positive_or_none)
    skip_norm: float | None = _option(None, _positive_or_none)
    kl: KL = _option(1.0)
    penalties: Penalties = _option(None)
    patience: int | None = _option(None, _count_or_none)
    validate_every: int = _option(1, check_count)
    device: str | torch.device = _option("auto", _device, may_change=True)
    precision: Precision = _option("auto", _one_of("auto", "float32", "bf16"))
    fabric: Fabric | None = _option(None, per_run=True, plain=False)
    seed: int = _option(0, check_seed, per_run=True)
    run_dir: str | Path | None = _option(None, _folder, may_change=True, per_run=True)
    resume: bool = _option(False, _switch, may_change=True, per_run=True)
    checkpoint_every: int = _option(1, check_count, may_change=True)
    capture: Capture = _option("auto", _one_of(True, False, "auto"), may_change=True)
    matmul_precision: MatmulPrecision = _option("float32", _one_of("float32", "bf16"))
    loggers: Sequence[str] = _option((), lambda _, value: check_loggers(value), may_change=True, per_run=True)
    progress: bool = _option(True, _switch, may_change=True)
    check: bool = _option(True, _switch, may_change=True)

    def __post_init__(self) -> None:
        for each in fields(self):
            if check := each.metadata["check"]:
                check(each.name, getattr(self, each.name))
        check_optimizer(self.optimizer, self.weight_decay)
        make_schedule(self.schedule)
        for name in ("epochs", "batch_size", "seed"):  # NumPy's become Python's
            object.__setattr__(self, name, int(getattr(self, name)))
        for name in (
            "learning_rate",
            "weight_decay",
            "clip_norm",
            "skip_norm",
        ):  # whole ones, of any size, too
            if getattr(self, name) is not None:
                object.__setattr__(self, name, float(getattr(self, name)))

    @classmethod
    def of(cls, keywords: dict[str, Any]) -> FitOptions:
        """From keywords.

        Raises:
            TypeError: for one that is no option.
        """
        for name in keywords:
            if name not in NAMES:
                close = difflib.get_close_matches(name, NAMES, n=1)
                hint = f"did you mean {close[0]!r}?" if close else f"its options are {', '.join(NAMES)}"
                raise TypeError(f"fit() got an unexpected keyword argument {name!r}: {hint}")
        return cls(**keywords)

    def chosen(self) -> set[str]:
        """The options that are not at their default."""
        return {each.name for each in fields(self) if not _same(getattr(self, each.name), each.default)}

    def plain(self) -> dict[str, Any]:
        """The options as YAML holds them."""
        values = {name: _plain(getattr(self, name)) for name in PLAIN}
        if self.weight_decay is None and isinstance(self.optimizer, str):
            values["weight_decay"] = 0.0
        return values


def _marked(flag: str) -> tuple[str, ...]:
    return tuple(each.name for each in fields(FitOptions) if each.metadata[flag])


NAMES = tuple(each.name for each in fields(FitOptions))

MAY_CHANGE = _marked("may_change")
"""Options in which a run and its continuation may differ."""

PER_RUN = _marked("per_run")
"""Options that a comparison chooses for its runs."""

PLAIN = _marked("plain")
"""Options that can be written as text."""


def check_beside(options: FitOptions, estimator: Any, data: Any) -> None:
    """Refuse what is no estimator, and options that were chosen and would do nothing beside the others.

    Raises:
        ValueError: names the option, its value, and the fix.
    """
    if not isinstance(estimator, PyroELBO):
        shown = repr(estimator)
        if len(shown) > 80:
            shown = f"an object of type {type(estimator).__name__}"
        raise ValueError(
            f"estimator must be an object such as estimators.IWAE(num_particles=10) or "
            f"pyro.infer.Trace_ELBO(), got {shown}: fit(pair, estimator, data)"
        )
    chosen = options.chosen()
    if options.matmul_precision == "bf16" and options.capture is not True:
        raise ValueError("matmul_precision='bf16' is for captured steps alone: give capture=True too")
    if options.run_dir is None:
        if options.resume:
            raise ValueError("resume=True needs the run's folder: fit(..., run_dir='runs/name', resume=True)")
        if "checkpoint_every" in chosen:
            raise ValueError(
                f"checkpoint_every={options.checkpoint_every!r} does nothing without a folder for the "
                f"checkpoints: give run_dir='runs/name' too, or leave it out"
            )
        if options.loggers:
            raise ValueError(
                f"the loggers {list(options.loggers)} need a run folder: fit(..., run_dir='runs/name')"
            )
    if not isinstance(data, DataSet) or data.valid is None or not len(data.valid):
        for name in sorted({"patience", "validate_every"} & chosen):
            raise ValueError(
                f"{name}={getattr(options, name)!r} does nothing without validation data: give a DataSet "
                f"with a valid part, such as data.from_tensors(x), or leave {name} out"
            )
    _check_fabric(options.fabric, options.device if "device" in chosen else None)


def _check_fabric(fabric: Any, device: Any) -> None:
    if fabric is not None and device is not None:
        raise ValueError(
            f"device={device!r} does nothing beside fabric=..., which has its own: leave one of them out"
        )
    plugin: Any = getattr(getattr(fabric, "strategy", None), "precision", None)
    if getattr(plugin, "precision", "32-true") not in ("32-true", 32, "32"):
        raise ValueError(
            f"the fabric's own precision, {plugin.precision!r}, would reach the log-probabilities: make it "
            f"with precision='32-true', and give fit precision='bf16'"
        )


def _same(value: Any, default: Any) -> bool:
    # of another type it is another: a tensor, compared with a number, gives a tensor
    return value is default or (type(value) is type(default) and bool(value == default))


def _plain(value: Any) -> str | int | float | bool | None:
    if value is None or isinstance(value, str | bool):
        return value
    if isinstance(value, numbers.Integral):
        return int(value)
    return float(value) if isinstance(value, numbers.Real) else text_of(value)
