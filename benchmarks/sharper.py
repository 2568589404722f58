"""What a penalty on pictures does to them, and to the true bound: MNIST in grey, one pair, equal epochs.

Judged on test images: the bound, which only the first row optimises; the Frechet distance of pictures (means)
drawn from the prior, in the features of a classifier that no training saw; and how sharp reconstructions are,
the mean squared difference of neighbouring pixels by that of the data.

    PPL_VAE_DATA=... python benchmarks/sharper.py --out benchmarks/results/sharper.json
"""

from __future__ import annotations

import argparse
import json
import platform
import time
from pathlib import Path
from typing import Any

import matplotlib.pyplot as plt
import torch
from torch import Tensor

import ppl_vae as pv
from ppl_vae import data, estimators, evaluate, guides, likelihoods, models, nets, penalties, plots
from ppl_vae.evaluate.feature_networks import train_classifier
from ppl_vae.runs import atomic_write

LATENT, HIDDEN = 16, (256, 256)


def make_pair(shape: tuple[int, ...], mean: Tensor) -> pv.Pair:
    """Dense nets, and a normal likelihood of scale 0.2."""
    torch.manual_seed(0)
    likelihood = likelihoods.Gaussian(scale=0.2)
    decoder = nets.MLPDecoder(LATENT, likelihood.raw_shape(shape), HIDDEN, "relu")
    nets.centre_output(decoder, likelihood, mean[None])
    guide = guides.MeanField(nets.MLPEncoder(shape, LATENT, HIDDEN, "relu"))
    return pv.Pair(models.VAE(likelihood, decoder, LATENT), guide)


def steepness(x: Tensor) -> float:
    """The mean squared difference of neighbouring pixels."""
    return float(x.diff(dim=-1).square().mean() + x.diff(dim=-2).square().mean())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--images", type=int, default=20_000)
    parser.add_argument("--epochs", type=int, default=30)
    parser.add_argument("--test", type=int, default=1000)
    parser.add_argument("--out", type=Path, default=Path("benchmarks/results/sharper.json"))
    options = parser.parse_args()
    mnist = data.load("mnist", binarise=None)
    train, test = mnist.train.take(options.images), mnist.test.take(options.test)
    assert mnist.train.y is not None
    seen, judge = (
        train_classifier(mnist.train[part].tensors()[0], mnist.train.y[torch.arange(len(mnist.train))[part]])
        for part in (slice(0, options.images), slice(options.images, 2 * options.images))
    )
    cases: dict[str, Any] = {
        "ELBO alone": None,
        "features of a classifier": penalties.Perceptual(seen[0], weight=5.0),
        "MS-SSIM, 3 scales": penalties.MSSSIM(weight=1000.0, sigma=0.5, scales=3),
        "adversary": penalties.Adversarial(100.0, feature_weight=30.0, channels=8, learning_rate=1e-3),
    }
    x = test.take(12).tensors()[0]
    figure, axes = plt.subplots(len(cases), 1, figsize=(8, 2.2 * len(cases)))
    rows = {}
    for (name, treatment), ax in zip(cases.items(), axes, strict=True):
        pair, started = make_pair(mnist.shape, train.mean()), time.process_time()
        run = pv.fit(
            pair, estimators.MeanFieldELBO(), train, epochs=options.epochs, batch_size=100,
            penalties=treatment, progress=False, device="cpu",
        )  # fmt: skip
        again = pv.reconstruct(pair, test.tensors()[0], seed=0).mean
        bounds = evaluate.bounds(pair, test)
        quality = evaluate.sample_quality(pair, test, judge[0], num_data=None, kind="mean")
        last = run.history.iloc[-1]
        rows[name] = {
            "processor seconds": time.process_time() - started,
            "test ELBO": bounds.elbo,
            "KL": bounds.kl["z"],
            "train_bound, what was optimised": float(last["train_bound"]),
            "train_elbo": float(last["train_elbo"]),
            "Frechet distance": quality.frechet,
            "coverage": quality.coverage,
            "steepness by the data's": steepness(again) / steepness(test.tensors()[0]),
            "said": list(run.hints),
        }
        print(name, rows[name], flush=True)
        shown = torch.cat([x, pv.reconstruct(pair, x, seed=0).mean, pv.sample(pair, 12, seed=0).mean])
        plots.images(shown.clamp(0, 1), columns=12, ax=ax)
        ax.set_title(f"{name}: data, reconstructions, samples", fontsize=8)
    result = {
        "settings": {
            "network": "784-256-256-16-256-256-784, relu, normal of scale 0.2",
            "training": f"{options.images} images, {options.epochs} epochs, batch 100, Adam 1e-3",
            "test": f"{options.test} images; pictures are means",
            "judge": f"a classifier of other images, {judge[1]:.1%} right; that of the penalty {seen[1]:.1%}",
        },
        "machine": {"processor": platform.processor() or platform.machine(), "torch": torch.__version__},
        "rows": rows,
    }
    figure.savefig(options.out.with_suffix(".png"), bbox_inches="tight", dpi=100)
    atomic_write(options.out, lambda path: path.write_text(json.dumps(result, indent=2) + "\n"))


if __name__ == "__main__":
    main()
