"""fit on several devices: each process has its share of the data, and all end with the same weights."""

from __future__ import annotations

import subprocess
import sys

import pytest
import torch

from ppl_vae.runs import RunFolder
from ppl_vae.train import several

SCRIPT = """
import atexit
import sys
from pathlib import Path
sys.path.insert(0, {root!r})
import torch
from lightning_fabric import Fabric
import ppl_vae as pv
from ppl_vae import data, estimators
from tests.train.test_fit import vae

def threads():
    names = [each.read_text().strip() for each in Path("/proc/self/task").glob("*/comm")]
    Path(f"threads-{{fabric.global_rank}}").write_text(" ".join(names))

atexit.register(threads)  # runs after what `fit` registers
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
    # one that was still there would take the process along when Python ends
    left = [(tmp_path / f"threads-{rank}").read_text() for rank in (0, 1)]
    assert not [names for names in left if "gloo" in names]
    metrics = RunFolder(tmp_path / "run").read_metrics()
    assert metrics["valid_elbo"].iloc[-1] > metrics["valid_elbo"].iloc[0]


@pytest.mark.skipif(not torch.distributed.is_gloo_available(), reason="torch without gloo")
@pytest.mark.parametrize("failed", [False, True])
def test_the_connection_ends_with_the_process_unless_it_has_failed(failed, tmp_path, monkeypatch):
    store = torch.distributed.FileStore(str(tmp_path / "store"), 1)
    torch.distributed.init_process_group("gloo", store=store, rank=0, world_size=1)
    try:
        if failed:  # what another process never joined would be waited for
            monkeypatch.setattr(sys, "last_type", RuntimeError, raising=False)
        else:
            monkeypatch.delattr(sys, "last_type", raising=False)
        several._disconnect()
        assert torch.distributed.is_initialized() is failed
        several._disconnect()
    finally:
        if torch.distributed.is_initialized():
            torch.distributed.destroy_process_group()
