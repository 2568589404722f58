"""A deep residual ladder on static MNIST: as far as some minutes of one processor go, and how it goes on.

Twelve stochastic layers on one path, the weight of the KL term rising over the first fifth, steps with a
spike in the gradient left out. The curve is the ELBO of the training batches; what is judged is the test set.

    PPL_VAE_DATA=... python benchmarks/deep_ladder.py --seconds 2100 --out benchmarks/results/deep_ladder.json
"""

from __future__ import annotations

import argparse
import json
import math
from pathlib import Path
from typing import Any

import matplotlib.pyplot as plt
import pandas as pd
import torch
from budget import Budget, train

import ppl_vae as pv
from ppl_vae import data, evaluate, guides, likelihoods, models, nets, plots
from ppl_vae.runs import atomic_write

PUBLISHED = {"LVAE, 12 layers, -log p": 78.30, "NVAE, -log p": 78.01}


def make_pair(shape: tuple[int, ...], layers: tuple[int, ...], channels: int) -> pv.Pair:
    """The ladder and its guide."""
    sizes = {"layers": layers, "latent_channels": (16, 4, 2), "channels": channels}
    path = nets.ConvTopDown(shape, **sizes)  # type: ignore[arg-type]
    model = models.DeepLadder(likelihoods.Bernoulli(), path)
    return pv.Pair(model, guides.DeepTopDown(nets.ConvBottomUp(shape, **sizes), path))  # type: ignore[arg-type]


def picture(pair: pv.Pair, test: data.Split, curve: list[dict[str, float]], steps: float, path: Path) -> None:
    """The bound and each layer's KL as the training goes on, reconstructions, and draws."""
    history = pd.DataFrame(curve).rename(columns=lambda name: name.replace("kl_", "train_kl_"))
    history["epoch"] = history["step"] / steps
    figure, axes = plt.subplots(4, 1, figsize=(9, 13), height_ratios=[3, 3, 1, 1])
    axes[0].plot(history["epoch"], -history["elbo"])
    axes[0].set(xlabel="epoch", ylabel="-ELBO of the training batches, nats", ylim=(75, 150))
    plots.layer_kl(history, ax=axes[1])
    x = test.take(20).tensors()[0]
    plots.reconstructions(x, pv.reconstruct(pair, x, seed=0).mean, columns=20, ax=axes[2])
    plots.samples(pv.sample(pair, 40, seed=0).mean, columns=20, ax=axes[3])
    figure.savefig(path, bbox_inches="tight", dpi=80)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--seconds", type=float, default=2100, help="of the processor, for the training")
    parser.add_argument(
        "--wall", type=float, default=math.inf, help="seconds after which it ends in any case"
    )
    parser.add_argument("--batch", type=int, default=50)
    parser.add_argument("--channels", type=int, default=24)
    parser.add_argument("--layers", type=int, nargs=3, default=(2, 4, 6))
    parser.add_argument("--learning-rate", type=float, default=4e-3)
    parser.add_argument("--skip-norm", type=float, default=5000.0)
    parser.add_argument("--test", type=int, default=500, help="test images")
    parser.add_argument("--num-particles", type=int, default=50)
    parser.add_argument("--out", type=Path, default=Path("benchmarks/results/deep_ladder.json"))
    options = parser.parse_args()

    mnist = data.load("static_mnist")
    torch.manual_seed(0)
    pair = make_pair(mnist.shape, tuple(options.layers), options.channels)
    path: Any = pair.model.path
    nets.centre_output(path, likelihoods.Bernoulli(), mnist.train.take(2000).tensors()[0])
    budget, curve = Budget(options.seconds, options.wall), []
    for row in train(
        pair, mnist.train, budget, options.batch, options.learning_rate, options.skip_norm, warmup=0.2
    ):
        curve.append({name: round(value, 2) for name, value in row.items()})
        print({name: value for name, value in curve[-1].items() if not name.startswith("kl_")}, flush=True)
    processor, wall = budget.used()
    test = mnist.test.take(options.test)
    bounds = evaluate.bounds(pair, test, num_particles=5)
    found = evaluate.log_likelihood(pair, test, options.num_particles, progress=False, capture=False)
    result = {
        "settings": {
            "data": "static MNIST, 50,000 training images",
            "ladder": f"{sum(options.layers)} layers, {tuple(options.layers)} at the sides 1, 7, 14",
            "latent channels": [16, 4, 2],
            "channels": options.channels,
            "batch": options.batch,
            "optimizer": f"Adamax, {options.learning_rate}, cosine to zero, clipped at 200",
            "skip_norm": options.skip_norm,
            "KL warm-up": "from 0.05 to 1 over the first fifth",
            "parameters": sum(each.numel() for each in pair.parameters()),
            "test images": options.test,
            "torch": torch.__version__,
        },
        "training": {
            "steps": curve[-1]["step"] if curve else 0,
            "epochs": round((curve[-1]["step"] if curve else 0) * options.batch / len(mnist.train), 2),
            "processor seconds": round(processor, 1),
            "wall seconds": round(wall, 1),
        },
        "test": {
            "ELBO": bounds.elbo,
            "standard error": bounds.standard_error,
            "reconstruction": bounds.reconstruction,
            "KL by layer": {site: round(value, 3) for site, value in bounds.kl.items()},
            f"-log p, at most (K = {options.num_particles})": -found.value,
        },
        "published": PUBLISHED,
        "curve": [{name: each[name] for name in each if not name.startswith("kl_")} for each in curve],
    }
    picture(pair, test, curve, len(mnist.train) / options.batch, options.out.with_suffix(".png"))
    text = json.dumps(result, indent=2)
    atomic_write(options.out, lambda path: path.write_text(text + "\n"))
    print(text)


if __name__ == "__main__":
    main()
