"""Binarised MNIST as a file: the rate beside -ELBO and the classical coders, under one sample and several.

The network of Townsend et al. (arXiv:1901.04866), 784-100-40-100-784 with ReLU, trained for 20 epochs with
Adam at 1e-3 in batches of 100 on the dynamically binarised training images, here for 300 from 3e-3 along a
cosine to zero; the test images are binarised once. They report 0.19 bits per dimension. Every file is
decoded again, and every bit compared.

    PPL_VAE_DATA=... python benchmarks/compression.py --images 10000 --out benchmarks/results/compression.json
"""

from __future__ import annotations

import argparse
import json
import platform
import time
from pathlib import Path
from typing import Any

import torch

import ppl_vae as pv
from ppl_vae import data, estimators, guides, likelihoods, models, nets
from ppl_vae.runs import atomic_write

SHAPE, LATENT, HIDDEN = (1, 28, 28), 40, (100,)


def make_pair() -> pv.Pair:
    """The published network."""
    decoder = nets.MLPDecoder(LATENT, SHAPE, HIDDEN, activation="relu")
    encoder = nets.MLPEncoder(SHAPE, LATENT, HIDDEN, activation="relu")
    return pv.Pair(models.VAE(likelihoods.Bernoulli(), decoder, LATENT), guides.MeanField(encoder))


def measured(pair: pv.Pair, x: torch.Tensor, **options: Any) -> dict[str, Any]:
    """One compression of images, decoded again."""
    started = time.perf_counter()
    file = pv.compress(pair, x, **options)
    seconds = time.perf_counter() - started
    print(file, flush=True)
    return {
        "images": file.num_data,
        "samples": file.num_samples,
        "rate": file.rate,
        "-ELBO": file.negative_elbo,
        "standard error of -ELBO": file.standard_error,
        "rate / -ELBO": file.rate / file.negative_elbo,
        "rate of the whole file": file.file_rate,
        "bits to begin with": file.initial_bits,
        "bytes": file.file_size,
        "classical coders": file.coder_rates,
        "smallest classical / rate": min(file.coder_rates.values(), default=float("nan")) / file.rate,
        "every bit compared": file.verified,
        "seconds to encode": file.seconds,
        "seconds in all": seconds,
    }


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--epochs", type=int, default=300)
    parser.add_argument("--learning-rate", type=float, default=3e-3, help="at first")
    parser.add_argument("--schedule", default="cosine", help="of the learning rate")
    parser.add_argument("--images", type=int, default=10_000, help="test images under one sample")
    parser.add_argument(
        "--samples", type=int, nargs="*", default=[1, 5, 50], help="K, each on the same images"
    )
    parser.add_argument("--sample-images", type=int, default=500, help="test images under several samples")
    parser.add_argument(
        "--bits", type=int, nargs="*", default=[4, 6, 8, 12], help="of the buckets, on the same"
    )
    parser.add_argument("--out", type=Path, default=Path("benchmarks/results/compression.json"))
    options = parser.parse_args()

    mnist = data.load("mnist")
    raw = data.load("mnist", binarise=None)
    every = torch.cat([part.rows.tensor for part in (raw.train, raw.part("valid"))])  # type: ignore[union-attr]
    train = data.Split(data.rows.ResidentRows(every), divisor=255.0, dynamic=True)
    torch.manual_seed(0)
    pair = make_pair()
    started = time.perf_counter()
    pv.fit(
        pair, estimators.MeanFieldELBO(), train,
        epochs=options.epochs, batch_size=100, learning_rate=options.learning_rate, schedule=options.schedule,
        device="cpu", check=False,
    )  # fmt: skip
    trained = time.perf_counter() - started
    (x,) = mnist.test.tensors()
    few = x[: options.sample_images]
    result = {
        "settings": {
            "network": "784-100-40-100-784, ReLU, Bernoulli",
            "training": f"{len(train):,} images, binarised dynamically, {options.epochs} epochs",
            "optimizer": f"Adam, {options.learning_rate}, {options.schedule}",
            "unit": "bits per dimension",
            "published": 0.19,
        },
        "machine": {
            "processor": platform.processor() or platform.machine(),
            "threads": torch.get_num_threads(),
            "torch": torch.__version__,
            "python": platform.python_version(),
        },
        "seconds of training": trained,
        "test images": measured(pair, x[: options.images]),
        "by samples": [measured(pair, few, num_samples=k, batch_size=1) for k in options.samples],
        "by bits of a bucket": {
            bits: measured(pair, few, bits=bits, batch_size=1, coders=False)["rate"] for bits in options.bits
        },
    }
    text = json.dumps(result, indent=2)
    print(text)
    atomic_write(options.out, lambda path: path.write_text(text + "\n"))


if __name__ == "__main__":
    main()
