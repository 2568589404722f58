"""-log p(x) of 10,000 images at K = 5,000: the rate of decoder passes, and the memory above the data.

    PPL_VAE_DATA=... python benchmarks/evaluation.py [--run runs/x] --out benchmarks/results/evaluation.json

Without a run the network of `benchmarks/mnist.py` is evaluated as it is initialised: rate and memory do
not depend on the weights.
"""

from __future__ import annotations

import argparse
import json
import platform
import resource
from pathlib import Path

import torch
from mnist import make_pair

import ppl_vae as pv
from ppl_vae import data, evaluate
from ppl_vae.run_folder import atomic_write


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--run", type=Path, help="the folder of a trained run")
    parser.add_argument("--num-particles", type=int, default=5000)
    parser.add_argument("--images", type=int, default=10_000)
    parser.add_argument("--out", type=Path, default=Path("benchmarks/results/evaluation.json"))
    options = parser.parse_args()

    mnist = data.load("mnist")
    torch.manual_seed(0)
    pair = pv.load(options.run) if options.run else make_pair(mnist.train)
    test = mnist.test.take(options.images)
    evaluate.log_likelihood(pair, test.take(10), num_particles=10, progress=False)  # load what is loaded once
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    result = evaluate.log_likelihood(pair, test, num_particles=options.num_particles)
    after = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    report = {
        "images": len(test),
        "num_particles": options.num_particles,
        "-log p": -result.value,
        "standard error": result.standard_error,
        "decoder passes per second": result.decoder_passes_per_second,
        "peak memory above the data, GiB": (after - before) / 2**20,
        "machine": {
            "processor": platform.processor() or platform.machine(),
            "threads": torch.get_num_threads(),
            "torch": torch.__version__,
        },
    }
    text = json.dumps(report, indent=2)
    print(text)
    atomic_write(options.out, lambda path: path.write_text(text + "\n"))


if __name__ == "__main__":
    main()
