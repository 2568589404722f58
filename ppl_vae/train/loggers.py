"""Where a run's metrics go besides its own metrics.csv: TensorBoard, Weights & Biases, MLflow."""

from __future__ import annotations

import importlib
import importlib.util
import os
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

from ppl_vae.core.checks import check_several


class Logger(Protocol):
    """What receives one row of metrics after each epoch."""

    def log(self, row: Mapping[str, float], epoch: int) -> None:
        """Take the metrics of an epoch."""

    def close(self) -> None:
        """Write what is held back."""


class TensorBoard:
    """Scalars for TensorBoard, under `tensorboard/` in the run's folder."""

    def __init__(self, folder: Path, settings: Mapping[str, Any]) -> None:
        module = _import("torch.utils.tensorboard", needs="tensorboard")
        self._writer = module.SummaryWriter(str(folder / "tensorboard"))

    def log(self, row: Mapping[str, float], epoch: int) -> None:
        for name, value in row.items():
            self._writer.add_scalar(name, value, epoch)

    def close(self) -> None:
        self._writer.close()


class WeightsAndBiases:
    """A Weights & Biases run called after the run's folder; its project is `WANDB_PROJECT` or ppl_vae."""

    def __init__(self, folder: Path, settings: Mapping[str, Any]) -> None:
        wandb = _import("wandb", needs="wandb")
        project = os.environ.get("WANDB_PROJECT") or "ppl_vae"
        self._run = wandb.init(project=project, name=folder.name, dir=str(folder), config=dict(settings))

    def log(self, row: Mapping[str, float], epoch: int) -> None:
        self._run.log(dict(row), step=epoch)

    def close(self) -> None:
        self._run.finish()


class MLflow:
    """An MLflow run called after the run's folder, at MLflow's own tracking address; within yours,
    if one is open.
    """

    def __init__(self, folder: Path, settings: Mapping[str, Any]) -> None:
        self._mlflow = _import("mlflow", needs="mlflow")
        self._mlflow.start_run(run_name=folder.name, nested=self._mlflow.active_run() is not None)
        self._mlflow.log_params(dict(settings))

    def log(self, row: Mapping[str, float], epoch: int) -> None:
        self._mlflow.log_metrics(dict(row), step=epoch)

    def close(self) -> None:
        self._mlflow.end_run()


LOGGERS: dict[str, Callable[[Path, Mapping[str, Any]], Logger]] = {
    "tensorboard": TensorBoard,
    "wandb": WeightsAndBiases,
    "mlflow": MLflow,
}


def check_loggers(names: Sequence[str]) -> None:
    """Raises ValueError for an unknown logger, ImportError for one whose package is not installed."""
    if isinstance(names, str):
        raise ValueError(f"loggers={names!r}: give a list, such as loggers=[{names!r}]")
    check_several("loggers", names)
    unknown = sorted(set(names) - set(LOGGERS))
    if unknown:
        raise ValueError(f"unknown loggers {unknown}: the known ones are {sorted(LOGGERS)}")
    for name in names:
        if importlib.util.find_spec(name) is None:
            raise ImportError(f"the logger {name} is not installed: pip install 'ppl_vae[{name}]'")


def open_loggers(names: Sequence[str], folder: Path | None, settings: Mapping[str, Any]) -> list[Logger]:
    """Open the named loggers for a run's folder.

    Raises:
        ValueError: as `check_loggers`, or without a folder.
        ImportError: when a logger's package is not installed.
    """
    check_loggers(names)
    if names and folder is None:
        raise ValueError(f"the loggers {list(names)} need a run folder: fit(..., run_dir='runs/name')")
    return [LOGGERS[name](folder, settings) for name in names] if folder is not None else []


def _import(module: str, needs: str) -> Any:
    try:
        return importlib.import_module(module)
    except ImportError as error:
        raise ImportError(f"this logger needs {needs}: pip install 'ppl_vae[{needs}]'") from error
