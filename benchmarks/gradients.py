"""Gradients at a point, drawn as the programs are written and by compiled graphs:
milliseconds a draw of each.

The toy of `benchmarks/snr.py`, the network of `benchmarks/mnist.py`, and estimators whose draws come in a
loop. What a graph saves in all, the time to make it apart, tells from how many draws on it pays.

    PPL_VAE_DATA=... python benchmarks/gradients.py --out benchmarks/results/gradients.json
"""

from __future__ import annotations

import argparse
import json
import platform
import statistics
import time
from pathlib import Path
from typing import Any

import mnist
import pyro.infer
import snr
import torch
from torch import Tensor

import ppl_vae as pv
from ppl_vae import data, estimators
from ppl_vae.comparison.gradients import GradientSampler
from ppl_vae.runs import atomic_write

LADDER = (10, 20, 50, 100)


def measure(
    name: str, pair: pv.Pair, estimator: Any, batch: tuple[Tensor, ...], repeats: int
) -> dict[str, Any]:
    """Both ways in turns, on the same random numbers."""
    samplers = {capture: GradientSampler(pair, estimator, batch, capture) for capture in (False, True)}
    draws = 2 * samplers[True]._chunk() if samplers[True].vectorised else 20
    gradients: dict[bool, Tensor] = {}
    seconds: dict[bool, list[float]] = {False: [], True: []}
    first = 0.0
    for repeat in range(repeats + 1):
        for capture, sampler in samplers.items():
            started = time.perf_counter()
            drawn = [each.gradient for each in sampler.draw(draws, repeat)]
            spent = time.perf_counter() - started
            if repeat:
                seconds[capture].append(spent / draws)
            else:
                gradients[capture] = torch.cat(drawn)
                first = spent
    written, captured = (statistics.median(seconds[capture]) for capture in (False, True))
    difference = (gradients[True] - gradients[False]).abs().max() / gradients[False].abs().max()
    return {
        "pair": name,
        "estimator": type(estimator).__name__,
        "K": estimator.num_particles,
        "drawn": "mapped" if samplers[True].vectorised else "in a loop",
        "milliseconds a draw as written": 1e3 * written,
        "milliseconds a draw captured": 1e3 * captured,
        "captured over as written": captured / written,
        "seconds of the first draws": first,
        "draws that repay them": round(first / (written - captured)) if written > captured else None,
        "largest difference over the largest gradient": float(difference),
    }


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--out", type=Path, default=Path("benchmarks/results/gradients.json"))
    options = parser.parse_args()
    toy, points = snr.make_pair(0)
    images = data.load("mnist")
    torch.manual_seed(0)
    network = mnist.make_pair(images.train)
    places = {"toy": (toy, (points[:4],)), "network": (network, images.test.take(8).tensors())}
    cases: list[tuple[str, Any]] = [
        ("toy", kind(size)) for kind in (estimators.IWAE, estimators.DReG) for size in LADDER
    ]
    cases += [("network", estimators.IWAE(10)), ("network", estimators.DReG(50))]
    loops = (pyro.infer.Trace_ELBO(max_plate_nesting=1), estimators.ScoreFunction(2))
    cases += [(place, each) for place in places for each in loops]
    rows = []
    for place, estimator in cases:
        rows.append(measure(place, places[place][0], estimator, places[place][1], options.repeats))
        print(
            ", ".join(f"{v:.3g}" if isinstance(v, float) else str(v) for v in rows[-1].values()), flush=True
        )
    report = {
        "draws": rows,
        "machine": {
            "processor": platform.processor() or platform.machine(),
            "threads": torch.get_num_threads(),
            "torch": torch.__version__,
        },
    }
    text = json.dumps(report, indent=2) + "\n"
    atomic_write(options.out, lambda path: path.write_text(text))


if __name__ == "__main__":
    main()
