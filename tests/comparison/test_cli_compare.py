from __future__ import annotations

import numpy as np
import pytest
import torch

from ppl_vae.cli import main
from ppl_vae.comparison import Comparison

CONFIG = """
data: bits.npz
pair: {latent_dim: 2}
epochs: 1
seeds: [0]
judge_particles: 20
progress: false
fit: {batch_size: 20, device: cpu}
at_point: {num_particles: [1, 2], draws: 10, evidence_particles: 50}
estimators:
  - ELBO
  - {class_path: IWAE, init_args: {num_particles: 3}}
  - {class_path: pyro.infer.Trace_ELBO, init_args: {num_particles: 2, vectorize_particles: true}}
"""


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    bits = torch.bernoulli(torch.full((60, 1, 4, 4), 0.4)).numpy()
    np.savez(tmp_path / "bits.npz", x=bits)
    (tmp_path / "compare.yaml").write_text(CONFIG)
    return tmp_path


def test_a_config_is_compared_kept_and_not_repeated(folder, capsys):
    assert main(["compare", "--config", "compare.yaml", "--run_dir", "runs/c"]) == 0
    shown = capsys.readouterr().out
    assert "after training, 1 epochs each" in shown
    assert "Trace_ELBO(2)" in shown
    found = {path.relative_to(folder / "runs/c").as_posix() for path in (folder / "runs/c").rglob("*")}
    files = {"command.yaml", "summary.txt", "after_training.csv", "at_point.csv", "slopes.csv", "at_point.nc"}
    figures = {
        f"figures/{name}.png" for name in ("scores", "curves_steps", "curves_seconds", "bounds", "snr_guide")
    }
    assert files | figures <= found
    first = Comparison.load(folder / "runs/c")
    weights = folder / "runs/c/IWAE-3/seed-0/weights.safetensors"
    written = weights.stat().st_mtime_ns
    assert main(["compare", "--config", "runs/c/command.yaml", "--run_dir", "runs/c"]) == 0
    assert weights.stat().st_mtime_ns == written
    assert Comparison.load(folder / "runs/c").after_training.dataset.equals(first.after_training.dataset)


@pytest.mark.parametrize(
    ("words", "code", "message"),
    [
        ([], 2, "give one budget"),
        (["--epochs", "1", "--seconds", "3"], 2, "give one budget"),
        (["--epochs", "1", "--estimators", "[IWEA]"], 2, "IWAE"),
        (["--epochs", "1", "--seeds", "[]"], 1, "seeds must be different"),
    ],
)
def test_mistakes_are_one_message(folder, capsys, words, code, message):
    assert main(["compare", "--data", "bits.npz", *words]) == code
    shown = capsys.readouterr().err
    assert message in shown
    assert "Traceback" not in shown
