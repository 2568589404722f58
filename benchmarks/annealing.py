"""Importance sampling beside annealing: log p(x) of MNIST images under one trained pair, nats and seconds.

The pair is that of `benchmarks/mnist.py`. Importance sampling with K from 100 to 20,000 and annealing from
the guide and from the prior judge the same images; both are lower bounds in expectation, so the higher one is
the better. Then images that the model draws tell, from both sides, how far the annealed values are off.

    PPL_VAE_DATA=... python benchmarks/annealing.py --images 1000 --out benchmarks/results/annealing.json
"""

from __future__ import annotations

import argparse
import json
import os
import platform
from pathlib import Path
from typing import Any

import torch
from mnist import make_pair

import ppl_vae as pv
from ppl_vae import data, estimators, evaluate
from ppl_vae.runs import atomic_write


def processor_seconds() -> float:
    """Of this process and of the compilers that it started, which other work on the machine leaves alone."""
    return sum(os.times()[:4])


def main() -> None:
    """Train, judge and write the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--epochs", type=int, default=20)
    parser.add_argument("--images", type=int, default=1000)
    parser.add_argument("--simulated", type=int, default=50)
    parser.add_argument("--particles", type=int, nargs="+", default=[100, 1000, 5000, 20_000])
    parser.add_argument("--temperatures", type=int, nargs="+", default=[30, 100, 300])
    parser.add_argument("--chains", type=int, default=8)
    parser.add_argument("--out", type=Path, required=True)
    options = parser.parse_args()

    mnist = data.load("mnist")
    torch.manual_seed(0)
    pair = make_pair(mnist.train)
    pv.fit(pair, estimators.MeanFieldELBO(), mnist, epochs=options.epochs, schedule="cosine", check=False)
    images = mnist.test.take(options.images).tensors()[0]

    rows: list[dict[str, Any]] = []

    def judge(name: str, **settings: Any) -> None:
        started = processor_seconds()
        found = evaluate.log_likelihood(pair, images, **settings)
        row = {
            "method": name,
            "-log p(x)": -found.value,
            "standard error": found.standard_error,
            "seconds": processor_seconds() - started,
            "effective sample size": float(found.ess.median()),
        }
        if not found.num_temperatures:
            row["k-hat above limit"] = found.share_unreliable
        rows.append(row)
        print(json.dumps(row), flush=True)

    for count in options.particles:
        judge(f"importance sampling, K = {count:,}", num_particles=count)
    for start in ("guide", "prior"):
        for steps in options.temperatures:
            judge(
                f"annealing from the {start}, T = {steps}",
                num_particles=options.chains,
                method="ais",
                num_temperatures=steps,
                start=start,
            )
    both = evaluate.sandwich(
        pair, options.simulated, num_temperatures=max(options.temperatures), num_chains=options.chains
    )
    result = {
        "settings": {
            "pair": "784-200-200-50, tanh, Bernoulli; static draws of the test images",
            "epochs": options.epochs,
            "images": len(images),
            "chains": options.chains,
            "seconds": "of processor time on one thread, compiling included",
        },
        "machine": {
            "processor": platform.processor() or platform.machine(),
            "threads": torch.get_num_threads(),
            "torch": torch.__version__,
        },
        "images of the test set": rows,
        "images drawn from the model": {
            "images": options.simulated,
            "temperatures": both.num_temperatures,
            "log p(x) at least": float(both.lower.mean()),
            "log p(x) at most": float(both.upper.mean()),
            "gap": both.gap,
            "gap's standard error": both.gap_standard_error,
        },
    }
    text = json.dumps(result, indent=2)
    print(text)
    atomic_write(options.out, lambda path: path.write_text(text + "\n"))


if __name__ == "__main__":
    main()
