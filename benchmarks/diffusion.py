"""Diffusion: the swirl in the plane, and MNIST at 8 bits a pixel, as far as some minutes of one processor go.

Both in continuous time, one evaluation of the denoiser a datum and step. Of the swirl the entropy is known,
which no -ELBO can go below; MNIST is scored in bits a pixel, without dequantisation: the levels have
probabilities.

    PPL_VAE_DATA=... python benchmarks/diffusion.py mnist --seconds 2000
"""

from __future__ import annotations

import argparse
import json
import math
from pathlib import Path
from typing import Any

import matplotlib.pyplot as plt
import torch
from budget import Budget, train
from torch import Tensor

import ppl_vae as pv
from ppl_vae import data, evaluate, guides, models, nets, plots
from ppl_vae.runs import atomic_write

WIDTH, TURNS = 0.08, 3 * math.pi


def along(u: Tensor) -> Tensor:
    """The swirl's middle line at u in [0, 1], (..., 2)."""
    angle = u.sqrt() * TURNS
    return (angle / 5).unsqueeze(-1) * torch.stack([angle.cos(), angle.sin()], -1)


def swirl(count: int, seed: int) -> Tensor:
    """Points of the swirl: evenly along its line, nearly, with a little normal noise."""
    generator = torch.Generator().manual_seed(seed)
    u = torch.rand(count, generator=generator)
    return along(u) + WIDTH * torch.randn(count, 2, generator=generator)


def entropy(x: Tensor) -> tuple[float, float]:
    """-log p(x) of the swirl itself, its mean and standard error, by a sum over its line."""
    line = along((torch.arange(4000, dtype=torch.float64) + 0.5) / 4000)
    away = torch.cdist(x.double(), line).square() / (2 * WIDTH**2)
    log_p = (-away).logsumexp(-1) - math.log(len(line)) - math.log(2 * math.pi * WIDTH**2)
    return float(-log_p.mean()), float(log_p.std() / len(x) ** 0.5)


def pair_of(denoiser: torch.nn.Module, schedule: nets.NoiseSchedule, levels: int | None = None) -> pv.Pair:
    model = models.Diffusion(denoiser, schedule, sampling_steps=200, levels=levels)
    return pv.Pair(model, guides.Noising(schedule))


def rounded(row: dict[str, float]) -> dict[str, float]:
    return {name: round(value, 3) for name, value in row.items()}


def of_swirl(seconds: float, wall: float, picture: Path) -> dict[str, Any]:
    """1,024 points, as in the notebook of arXiv:2107.00630, and 4,096 others to be judged by."""
    torch.manual_seed(0)
    points, test = swirl(1024, 0), swirl(4096, 1)
    schedule = nets.NoiseSchedule(-8.0, 5.0)
    pair, budget = pair_of(nets.MLPDenoiser((2,), (128, 128, 128)), schedule), Budget(seconds, wall)
    split = data.Split.from_tensor(points)
    curve = [rounded(row) for row in train(pair, split, budget, 512, 3e-3, every=250)]
    found = evaluate.bounds(pair, test, num_particles=100)
    pair.remember((points,))
    drawn = pv.sample(pair, 2000, seed=0).value
    figure, axes = plt.subplots(1, 2, figsize=(8, 4), sharex=True, sharey=True)
    for ax, cloud, title in zip(axes, (points, drawn), ("1,024 points", "2,000 samples"), strict=True):
        ax.scatter(*cloud.T, s=3, linewidths=0)
        ax.set(title=title, box_aspect=1)
    figure.tight_layout()
    figure.savefig(picture, dpi=80)
    least, error = entropy(test)
    return {
        "settings": {
            "points": 1024, "batch": 512, "denoiser": "MLP, three layers of 128", "gamma": [-8.0, 5.0],
            "optimizer": "Adamax, 3e-3, cosine to zero", "test points": len(test),
        },
        "seconds": dict(zip(("processor", "wall"), budget.used(), strict=True)),
        "-ELBO": -found.elbo,
        "standard error": found.standard_error,
        "entropy of the swirl, at the test points": least,
        "its standard error": error,
        "gap in nats, paired": -found.elbo - least,
        "curve": curve,
    }  # fmt: skip


def of_mnist(
    seconds: float, wall: float, channels: int, blocks: int, count: int, picture: Path
) -> dict[str, Any]:
    """8-bit MNIST, 28 x 28, not padded."""
    mnist = data.load("mnist", binarise=None)
    torch.manual_seed(0)
    schedule = nets.NoiseSchedule(-13.3, 5.0, shift=0.5, factor=2.0)
    denoiser = nets.ConvDenoiser(mnist.shape, channels, blocks)
    pair, budget = pair_of(denoiser, schedule, levels=256), Budget(seconds, wall)
    curve = [rounded(row) for row in train(pair, mnist.train, budget, 64, 4e-3)]
    test = mnist.test.take(count)
    found = evaluate.bounds(pair, test, num_particles=10)
    bits = math.log(2) * math.prod(mnist.shape)
    pair.remember(tuple(test.take(2).tensors()))
    axes = plots.images(pv.sample(pair, 32, seed=0).value, columns=8)
    axes.figure.savefig(picture, dpi=80)  # type: ignore[union-attr]
    return {
        "settings": {
            "denoiser": f"ConvDenoiser, {channels} channels, {blocks} blocks", "batch": 64, "levels": 256,
            "gamma": [-13.3, 5.0], "optimizer": "Adamax, 4e-3, cosine to zero", "test images": count,
            "parameters": sum(each.numel() for each in pair.parameters()),
        },
        "seconds": dict(zip(("processor", "wall"), budget.used(), strict=True)),
        "-ELBO, nats": -found.elbo,
        "bits a pixel": -found.elbo / bits,
        "standard error, bits a pixel": found.standard_error / bits,
        "of these the reconstruction": -found.reconstruction / bits,
        "curve": [{**row, "bits a pixel": round(-row["elbo"] / bits, 3)} for row in curve],
    }  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("parts", nargs="*", default=["swirl", "mnist"], help="what else is in --out stays")
    parser.add_argument("--seconds", type=float, default=300, help="of the processor, for MNIST")
    parser.add_argument("--swirl-seconds", type=float, default=90)
    parser.add_argument(
        "--wall", type=float, default=math.inf, help="seconds after which each ends in any case"
    )
    parser.add_argument("--channels", type=int, default=32)
    parser.add_argument("--blocks", type=int, default=4)
    parser.add_argument("--test", type=int, default=500, help="test images")
    parser.add_argument("--out", type=Path, default=Path("benchmarks/results/diffusion.json"))
    options = parser.parse_args()
    torch.set_num_threads(1)
    result: dict[str, Any] = json.loads(options.out.read_text()) if options.out.exists() else {}
    result["torch"] = torch.__version__
    parts = {
        "swirl": lambda picture: of_swirl(options.swirl_seconds, options.wall, picture),
        "mnist": lambda picture: of_mnist(
            options.seconds, options.wall, options.channels, options.blocks, options.test, picture
        ),
    }
    for name in options.parts:
        result[name] = parts[name](options.out.with_name(f"{options.out.stem}_{name}.png"))
        text = json.dumps(result, indent=2)
        print(text, flush=True)
        atomic_write(options.out, lambda path, text=text: path.write_text(text + "\n"))  # type: ignore[misc]


if __name__ == "__main__":
    main()
