"""Seconds of whole trainings, from the call of `fit` to its end: `capture="auto"` beside `capture=False`.

The dense VAE of `step_time.py` (784-400-20, batches of 128, one particle), on rows of 784 bytes. Each
training has a process of its own and an empty cache of Inductor's, so that compiling counts; the two of a
pair run at the same time, on a thread each, so that a busy machine is unfair to neither.

    python benchmarks/whole_trainings.py --steps 3000 10000 --out benchmarks/results/whole_trainings.json
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import torch
from step_time_serve import PIXELS, rows
from step_time_torch import make_pair

import ppl_vae as pv
from ppl_vae import data, estimators
from ppl_vae.runs import atomic_write

POINT = {"kind": "dense", "hidden": [400], "latent_dim": 20, "batch": 128, "num_particles": 1}
CAPTURES: dict[str, Any] = {"auto": "auto", "as written": False}


def training(steps: int, capture: str) -> None:
    """One of them, in this process; prints what came of it."""
    torch.set_num_threads(1)
    pixels = torch.from_numpy(rows())[: 10_000 // 128 * 128].view(-1, PIXELS)
    split = data.Split(data.rows.ResidentRows(pixels), divisor=255.0, dynamic=True)
    pair = make_pair(POINT)
    started = time.perf_counter()
    run = pv.fit(
        pair, estimators.ELBO(), split, epochs=-(-steps * 128 // len(split)), batch_size=128, device="cpu",
        capture=CAPTURES[capture], progress=False, seed=0,
    )  # fmt: skip
    seconds = time.perf_counter() - started
    bound = float(run.history["train_bound"].iloc[-1])
    print(json.dumps({"seconds": round(seconds, 1), "last epoch's bound": round(bound, 2)}))


def pair_of(steps: int) -> dict[str, Any]:
    """Both, at the same time."""
    started = {}
    for name in CAPTURES:
        cache = tempfile.mkdtemp(prefix="whole_trainings_")
        settings = {"TORCHINDUCTOR_CACHE_DIR": cache, "OMP_NUM_THREADS": "1"}
        command = [sys.executable, __file__, "--one", name, "--steps", str(steps)]
        started[name] = subprocess.Popen(
            command, stdout=subprocess.PIPE, text=True, env=os.environ | settings
        )
    found = {name: json.loads(process.communicate()[0].splitlines()[-1]) for name, process in started.items()}
    return {**found, "auto / as written": round(found["auto"]["seconds"] / found["as written"]["seconds"], 3)}


def main() -> None:
    """Each number of steps, one after the other."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--steps", type=int, nargs="+", default=[3000, 10_000])
    parser.add_argument("--one", choices=list(CAPTURES), help="one training in this process")
    parser.add_argument("--out", type=Path)
    options = parser.parse_args()
    if options.one:
        training(options.steps[0], options.one)
        return
    result = {
        "settings": {**POINT, "threads": 1, "data": "10,000 rows of bytes, binarised afresh at every step"},
        "torch": torch.__version__,
        "steps": {steps: pair_of(steps) for steps in options.steps},
    }
    text = json.dumps(result, indent=2)
    print(text)
    if options.out:
        atomic_write(options.out, lambda path: path.write_text(text + "\n"))


if __name__ == "__main__":
    main()
