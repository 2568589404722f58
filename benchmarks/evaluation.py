"""-log p(x) of 10,000 images at K = 5,000: the rate of decoder passes, and the memory above the data.

    PPL_VAE_DATA=... python benchmarks/evaluation.py [--run runs/x] --out benchmarks/results/evaluation.json
    PPL_VAE_DATA=... python benchmarks/evaluation.py --side-by-side 3 --images 500 \
        --out benchmarks/results/evaluation_captured.json

Without a run the network of `benchmarks/mnist.py` is evaluated as it is initialised: rate and memory do
not depend on the weights. The second line evaluates three times captured and three times not, in turns.
"""

from __future__ import annotations

import argparse
import json
import platform
import resource
import statistics
import time
from pathlib import Path
from typing import Any

import torch
from mnist import make_pair

import ppl_vae as pv
from ppl_vae import data, evaluate
from ppl_vae.runs import atomic_write


def side_by_side(pair: pv.Pair, test: data.Split, num_particles: int, repeats: int) -> dict[str, Any]:
    """Seconds of the evaluation as written and captured, the compilation apart,
    and how far the results differ.
    """
    seconds: dict[bool, list[float]] = {False: [], True: []}
    values: dict[bool, torch.Tensor] = {}
    first = 0.0
    for repeat in range(repeats + 1):
        for capture in (True, False):
            split = (
                test if repeat else test.take(20)
            )  # the first time compiles, for two batches of the same shape
            started = time.perf_counter()
            found = evaluate.log_likelihood(
                pair, split, num_particles, batch_size=10, capture=capture, progress=False
            )
            spent = time.perf_counter() - started
            if repeat:
                seconds[capture].append(spent)
                values[capture] = found.per_datum
            elif capture:
                first = spent
    written, captured = (statistics.median(seconds[capture]) for capture in (False, True))
    passes = len(test) * num_particles
    return {
        "seconds as written": written,
        "seconds captured": captured,
        "decoder passes per second as written": passes / written,
        "decoder passes per second captured": passes / captured,
        "captured over as written": captured / written,
        "seconds of the first, captured, with 20 images": first,
        "largest difference of log p, nats": float((values[True] - values[False]).abs().max()),
        "repeats": repeats,
    }


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--run", type=Path, help="the folder of a trained run")
    parser.add_argument("--num-particles", type=int, default=5000)
    parser.add_argument("--images", type=int, default=10_000)
    parser.add_argument("--side-by-side", type=int, default=0, help="times that both ways are measured")
    parser.add_argument("--out", type=Path, default=Path("benchmarks/results/evaluation.json"))
    options = parser.parse_args()

    mnist = data.load("mnist")
    torch.manual_seed(0)
    pair = pv.load(options.run) if options.run else make_pair(mnist.train)
    test = mnist.test.take(options.images)
    evaluate.log_likelihood(pair, test.take(10), num_particles=10, progress=False)  # load what is loaded once
    report: dict[str, Any] = {"images": len(test), "num_particles": options.num_particles}
    if options.side_by_side:
        report |= side_by_side(pair, test, options.num_particles, options.side_by_side)
    else:
        before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        result = evaluate.log_likelihood(pair, test, num_particles=options.num_particles)
        after = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        report |= {
            "-log p": -result.value,
            "standard error": result.standard_error,
            "decoder passes per second": result.decoder_passes_per_second,
            "peak memory above the data, GiB": (after - before) / 2**20,
        }
    report["machine"] = {
        "processor": platform.processor() or platform.machine(),
        "threads": torch.get_num_threads(),
        "torch": torch.__version__,
    }
    text = json.dumps(report, indent=2)
    print(text)
    atomic_write(options.out, lambda path: path.write_text(text + "\n"))


if __name__ == "__main__":
    main()
