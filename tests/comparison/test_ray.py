"""A comparison on Ray through joblib, two workers on this machine; skipped where Ray is not installed."""

from __future__ import annotations

import importlib.util

import joblib
import pytest
import torch

from ppl_vae import Pair, comparison, estimators, guides, models, nets

pytestmark = [
    pytest.mark.skipif(importlib.util.find_spec("ray") is None, reason="ray is not installed"),
    pytest.mark.filterwarnings("ignore"),
    pytest.mark.slow,
]


def make_pair(seed):
    return Pair(models.LinearGaussian(1, 2), guides.MeanField(nets.MLPEncoder((2,), 1, hidden=())))


def test_two_workers_of_ray_find_what_one_process_finds(tmp_path):
    import ray
    from ray.util.joblib import register_ray

    x = torch.randn(40, 2, generator=torch.Generator().manual_seed(0))

    def run(folder, n_jobs):
        return comparison.after_training(
            make_pair, [estimators.ELBO(), estimators.IWAE(3)], x, judge_on=x, judge_particles=20, epochs=2,
            seeds=[0], run_dir=tmp_path / folder, n_jobs=n_jobs, progress=False, device="cpu",
        ).table  # fmt: skip

    serial = run("serial", 1)
    ray.init(num_cpus=2, include_dashboard=False, log_to_driver=False)
    try:
        register_ray()
        with joblib.parallel_config(backend="ray"):
            parallel = run("ray", 2)
    finally:
        ray.shutdown()
    columns = [name for name in serial if "seconds" not in name]
    assert serial[columns].equals(parallel[columns])
