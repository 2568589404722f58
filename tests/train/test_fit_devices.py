"""fit on several devices: each process has its share of the data, and all end with the same weights."""

from __future__ import annotations

import subprocess
import sys

import pytest

from ppl_vae.runs import RunFolder

SCRIPT = """
import sys
sys.path.insert(0, {root!r})
import torch
from lightning_fabric import Fabric
import ppl_vae as pv
from ppl_vae import data, estimators
from tests.train.test_fit import vae

torch.set_num_threads(1)
fabric = Fabric(accelerator="cpu", devices=2, strategy="ddp")
fabric.launch()
pair = vae()
run = pv.fit(pair, estimators.IWAE(3), data.load("digits"), epochs=2, batch_size=64, fabric=fabric,
             run_dir="run", progress=False)
everyone = fabric.all_gather(torch.cat([p.detach().flatten() for p in pair.parameters()]))
assert torch.equal(everyone[0], everyone[1]), "the processes' weights differ"
assert (run.path is None) == (fabric.global_rank > 0)
with open(f"steps-{{fabric.global_rank}}", "w") as file:
    file.write(str(int(run.history["step"].iloc[-1])))
"""


@pytest.mark.slow
def test_two_processes_train_one_pair(tmp_path, pytestconfig):
    script = tmp_path / "two.py"
    script.write_text(SCRIPT.format(root=str(pytestconfig.rootpath)))
    done = subprocess.run(
        [sys.executable, str(script)], cwd=tmp_path, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    # 1258 images, half of them for each process, 64 at a time
    assert [(tmp_path / f"steps-{rank}").read_text() for rank in (0, 1)] == ["20", "20"]
    metrics = RunFolder(tmp_path / "run").read_metrics()
    assert metrics["valid_elbo"].iloc[-1] > metrics["valid_elbo"].iloc[0]
