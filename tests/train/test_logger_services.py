"""Loggers against Weights & Biases and MLflow themselves, on this machine alone;
skipped where they are not installed.
"""

from __future__ import annotations

import importlib.util
import os
from pathlib import Path

import pytest
import torch

import ppl_vae as pv
from ppl_vae import Pair, estimators, guides, models, nets

# their imports and servers warn of their own affairs
pytestmark = [pytest.mark.filterwarnings("ignore"), pytest.mark.slow]


def needs(package: str) -> pytest.MarkDecorator:
    return pytest.mark.skipif(importlib.util.find_spec(package) is None, reason=f"{package} is not installed")


def train(folder: Path, logger: str, **options) -> pv.Run:
    pair = Pair(models.LinearGaussian(1, 2), guides.MeanField(nets.MLPEncoder((2,), 1, hidden=())))
    x = torch.randn(40, 2, generator=torch.Generator().manual_seed(0))
    return pv.fit(
        pair, estimators.ELBO(), x, epochs=3, run_dir=folder, loggers=[logger], progress=False, device="cpu",
        **options,
    )  # fmt: skip


@needs("wandb")
def test_weights_and_biases_offline_gets_every_epoch(tmp_path, monkeypatch):
    monkeypatch.setenv("WANDB_MODE", "offline")
    monkeypatch.setenv("WANDB_SILENT", "true")
    monkeypatch.chdir(tmp_path)
    import wandb

    seen = []
    start = wandb.init
    monkeypatch.setattr(wandb, "init", lambda **options: seen.append(start(**options)) or seen[-1])
    run = train(tmp_path / "named", "wandb")
    [logged] = seen
    assert logged.project == "ppl_vae"
    assert logged.name == "named"
    assert logged.config["learning_rate"] == 1e-3
    [file] = (tmp_path / "named" / "wandb").glob("offline-run-*/*.wandb")
    for value in run.history["train_elbo"]:
        assert repr(value).encode() in file.read_bytes()
    assert wandb.run is None, "the run is finished"


@needs("mlflow")
@pytest.mark.parametrize("within", [False, True], ids=["alone", "in a run of the user's"])
def test_mlflow_with_a_local_database_gets_every_epoch(tmp_path, monkeypatch, within):
    monkeypatch.chdir(tmp_path)
    import mlflow

    before = mlflow.get_tracking_uri()
    mlflow.set_tracking_uri(f"sqlite:///{tmp_path / 'mlflow.db'}")
    try:
        outer = mlflow.start_run(run_name="outer") if within else None
        run = train(tmp_path / "named", "mlflow")
        still = mlflow.active_run()
        assert (still is None) if outer is None else (still.info.run_id == outer.info.run_id)
        if outer is not None:
            mlflow.end_run()
        client = mlflow.MlflowClient()
        [found] = [r for r in client.search_runs(["0"]) if r.info.run_name == "named"]
        assert found.info.status == "FINISHED"
        assert found.data.params["learning_rate"] == "0.001"
        history = client.get_metric_history(found.info.run_id, "train_elbo")
        assert [entry.step for entry in history] == [1, 2, 3]
        assert [entry.value for entry in history] == pytest.approx(list(run.history["train_elbo"]))
    finally:
        mlflow.set_tracking_uri(before)


@needs("mlflow")
def test_mlflow_is_told_of_a_training_that_fails(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    import mlflow

    before = mlflow.get_tracking_uri()
    mlflow.set_tracking_uri(f"sqlite:///{tmp_path / 'mlflow.db'}")
    try:
        with pytest.raises(pv.TrainingError):
            train(tmp_path / "named", "mlflow", learning_rate=1e30, optimizer="sgd")
        assert mlflow.active_run() is None
    finally:
        mlflow.set_tracking_uri(before)
        assert "MLFLOW_RUN_ID" not in os.environ
