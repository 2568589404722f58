"""prepare: the first part of `fit`. Everything is checked and made, nothing trained or written."""

from __future__ import annotations

import math
import warnings
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import torch
from pyro.infer import ELBO as PyroELBO
from pyro.poutine.util import prune_subsample_sites
from torch import Tensor

from ppl_vae.core.drawing import draw
from ppl_vae.core.faults import traced
from ppl_vae.core.isolation import python_random_numbers, questioning, random_numbers
from ppl_vae.core.missing import takes_missing
from ppl_vae.core.pair import Pair
from ppl_vae.core.sites import auxiliary_names, latent_names, observed_names
from ppl_vae.data import DataSet, Split, as_split, for_pair
from ppl_vae.data.known_table import of_table
from ppl_vae.data.selection import withheld
from ppl_vae.estimators import auxiliary_of, ours
from ppl_vae.evaluate.loop import check_pair_type
from ppl_vae.kl import KLPlan
from ppl_vae.penalties import by_site
from ppl_vae.runs import CHECKPOINT, CONFIG, RunError, RunFolder
from ppl_vae.runs.identity import identity
from ppl_vae.runs.loading import pair_config, why_not_rebuildable
from ppl_vae.runs.naming import warn_of_local
from ppl_vae.testing import check_pair
from ppl_vae.train.example import example_for
from ppl_vae.train.hints import Hints
from ppl_vae.train.optimizers import make_optimizer, make_schedule
from ppl_vae.train.options import Data, FitOptions, check_beside
from ppl_vae.train.several import disconnect_at_exit
from ppl_vae.train.state import Learner, Training

if TYPE_CHECKING:  # importing it takes as long as torch
    from lightning_fabric import Fabric


@dataclass
class Prepared:
    """A training that could start.

    Attributes:
        options: `fit`'s.
        train, valid: the data, on their device; this process's share where there are several.
        example: a few data, by which programs are tried.
        kl: what is done to the KL term; None for nothing.
        training: how far it is.
        hints: what is said of a start or a course that goes badly.
        folder: the run's; None without one, and in all processes but the first.
        config: what is written to it.
    """

    pair: Pair
    estimator: PyroELBO
    options: FitOptions
    fabric: Fabric
    train: Split
    valid: Split | None
    example: tuple[Tensor, ...]
    kl: KLPlan | None
    training: Training
    hints: Hints
    folder: RunFolder | None
    config: dict[str, Any] = field(default_factory=dict)

    @property
    def steps_per_epoch(self) -> int:
        """Gradient steps in an epoch."""
        return steps_of(self.train, self.options)

    @property
    def total(self) -> int:
        """Gradient steps in all."""
        return self.options.epochs * self.steps_per_epoch

    @property
    def steps_by_size(self) -> dict[int, int]:
        """Gradient steps in all, by the size of their batches: the last of an epoch may be a smaller one."""
        whole, rest = divmod(len(self.train), self.options.batch_size)
        sizes = {self.options.batch_size: whole, rest: 1}
        return {size: count * self.options.epochs for size, count in sizes.items() if size and count}

    @contextmanager
    def alone(self) -> Iterator[None]:
        """Inside, the random numbers are the run's own, its folder is written by no other process,
        and it is resumed.
        """
        own = self.options.seed + self.fabric.global_rank
        with ExitStack() as stack:
            stack.enter_context(random_numbers(own, self.fabric.device))
            stack.enter_context(python_random_numbers(own))
            if self.folder is not None:
                stack.enter_context(self.folder.owned())
                self._open(self.folder)
            yield

    def _open(self, folder: RunFolder) -> None:
        if not self.options.resume and folder.has(CONFIG):
            raise RunError(
                f"{folder.path} already holds a run: choose another run_dir, or continue it with resume=True"
            )
        if self.options.resume and folder.has(CHECKPOINT):
            self.training.resume()
        # only now: a folder whose checkpoint does not fit must stay as it was
        folder.write_config(self.config)


def prepare(pair: Pair, estimator: PyroELBO, data: Data, options: FitOptions) -> Prepared:
    """Check all that `fit` was given, and make what a training is made of."""
    check_pair_type(pair)
    check_beside(options, estimator, data)
    given, data = data, _for_pair(data, pair)
    fabric = options.fabric or make_fabric(str(options.device))
    if fabric.world_size > 1:
        disconnect_at_exit()
    train, valid = _parts(data, fabric)
    pair.to(fabric.device)
    with random_numbers(options.seed, fabric.device):
        example = example_for(pair, train, valid, estimator, options.batch_size)
    pair.to(fabric.device)  # what the programs have made by now
    pair.remember(example)
    pair.schema = train.naming.schema or pair.schema  # arrays may be rows of the table of before
    report = check_pair(pair, *example, estimator=estimator) if options.check else None
    with questioning(pair, options.seed, fabric.device):
        plan = _kl_plan(pair, estimator, example, options, train, len(train) * fabric.world_size)
    training = _training(pair, estimator, given, options, plan, fabric)
    folder = RunFolder(options.run_dir) if options.run_dir is not None and fabric.is_global_zero else None
    learns = any(parameter.requires_grad for parameter in pair.guide.parameters())
    hints = Hints(report, plan, learns)
    prepared = Prepared(
        pair, estimator, options, fabric, train, valid, example, plan, training, hints, folder
    )
    if folder is not None:
        _describe(prepared, data)
    return prepared


def steps_of(train: Split, options: FitOptions) -> int:
    """Gradient steps in an epoch."""
    return math.ceil(len(train) / options.batch_size)


def make_fabric(device: str) -> Fabric:
    """One device by its name.

    Raises:
        ValueError: for one that is not there.
    """
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


def _for_pair(data: Data, pair: Pair) -> DataSet | Split:
    """The data with the batches that the programs take."""
    source = data if isinstance(data, DataSet) else as_split(of_table(data, pair), takes_missing(pair.model))
    train = source.train if isinstance(source, DataSet) else source
    chosen = for_pair(source, pair)
    if withheld(train, pair) and "y" not in (chosen.train if isinstance(chosen, DataSet) else chosen).names:
        warnings.warn(
            "the data has labels, which the programs can take as y and are not given: labels=True gives them",
            UserWarning,
            stacklevel=7,  # the line that called fit
        )
    return chosen


def _parts(data: DataSet | Split, fabric: Fabric) -> tuple[Split, Split | None]:
    train, valid = (data.train, data.valid) if isinstance(data, DataSet) else (data, None)
    if fabric.world_size > 1:
        size = len(train) // fabric.world_size * fabric.world_size  # equal shares: equal steps
        train = train[fabric.global_rank : size : fabric.world_size]
    return train.to(fabric.device), None if valid is None else valid.to(fabric.device)


def _kl_plan(
    pair: Pair,
    estimator: PyroELBO,
    example: tuple[Tensor, ...],
    options: FitOptions,
    train: Split,
    data_size: int,
) -> KLPlan | None:
    drawn = prune_subsample_sites(traced(pair.guide, example, "guide"))
    sites, auxiliary = tuple(latent_names(drawn)), tuple(auxiliary_names(drawn))
    beside = by_site(options.penalties, lambda: observed_names(traced(pair.model, example, "model")))
    plan = KLPlan(options.kl, sites, options.epochs, steps_of(train, options), auxiliary, beside)
    if not plan.changes_anything:
        return None
    plan.check(estimator)
    with torch.enable_grad():  # a penalty may ask whether there is a gradient
        plan.make_penalties(draw(pair.model, pair.guide, example), data_size)
    return plan


def _training(
    pair: Pair,
    estimator: PyroELBO,
    data: Data,
    options: FitOptions,
    plan: KLPlan | None,
    fabric: Fabric,
) -> Training:
    auxiliary = auxiliary_of(estimator).to(fabric.device)
    both = dict.fromkeys([*pair.parameters(), *auxiliary.parameters()])  # an estimator may share some
    parameters = [parameter for parameter in both if parameter.requires_grad]
    optimizer = make_optimizer(options.optimizer, parameters, options.learning_rate, options.weight_decay)
    learners: dict[str, Learner] = {"estimator": auxiliary}
    if plan is not None:
        learners["kl"] = plan
    settings = {
        **options.plain(),
        "estimator": repr(estimator) if ours(estimator) is not None else _stock(estimator),
        "data": repr(data) if isinstance(data, DataSet | Split) else _kind_of(data),
    }
    return Training(
        pair,
        optimizer,
        settings,
        patience=options.patience,
        learners=learners,
        net_dtype=_net_dtype(options.precision, fabric.device),
    )


def _describe(prepared: Prepared, data: DataSet | Split) -> None:
    """Say what the run is of, and before the first step what its folder will not do once the training has
    ended.
    """
    options, training = prepared.options, prepared.training
    trees = pair_config(prepared.pair, prepared.example)
    training.folder, training.example = prepared.folder, prepared.example
    training.identity = identity(
        prepared.pair,
        trees["pair"],
        data,
        prepared.estimator,
        options.kl,
        options.penalties,
        training.optimizer,
        options.schedule,
        make_schedule(options.schedule),
        prepared.fabric.world_size,
    )
    name: dict[str, Any] = {"name": data.name} if isinstance(data, DataSet) else {}
    if (schema := prepared.train.naming.schema) is not None:
        name["schema"] = schema.plain()
    if (alphabet := prepared.train.naming.alphabet) is not None:
        name["alphabet"] = list(alphabet.symbols)
    prepared.config = {
        **trees,
        "data": {**name, **training.identity["data"]},
        "fit": training.settings,
    }
    if why := why_not_rebuildable(prepared.config):
        warnings.warn(why, UserWarning, stacklevel=7)  # the line that called fit
    functions: Mapping[str, Any] = {"schedule": options.schedule, "optimizer": options.optimizer}
    warn_of_local(functions, "this run cannot be resumed there", stacklevel=8)


def _net_dtype(precision: str, device: torch.device) -> torch.dtype | None:
    automatic = precision == "auto" and device.type == "cuda" and torch.cuda.is_bf16_supported(False)
    return torch.bfloat16 if precision == "bf16" or automatic else None


def _kind_of(data: object) -> str:
    """Data that is no split, as text."""
    return "a tensor" if isinstance(data, Tensor) else f"of type {type(data).__name__}"


def _stock(estimator: PyroELBO) -> str:
    """One of Pyro's estimators as text; they have no repr of their own."""
    named = {name: getattr(estimator, name, None) for name in ("alpha", "num_particles")}
    arguments = ", ".join(f"{name}={value}" for name, value in named.items() if value is not None)
    return f"{type(estimator).__module__}.{type(estimator).__qualname__}({arguments})"
