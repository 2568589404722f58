"""Anomaly scores on MNIST: digits against rotated, inverted, noisy and letter-like images made here.

Small VAEs are trained on binarised MNIST for some epochs; then every score of `evaluate.anomaly` is given 300
test digits and 300 anomalies of each kind, and its area under the curve is written down. All images are
binarised alike, so that all have the same likelihood. The plain likelihood's failures are the point: it
follows how simple an image is.

    PPL_VAE_DATA=... python benchmarks/anomaly.py --out benchmarks/results/anomaly.json
"""

from __future__ import annotations

import argparse
import json
import platform
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image, ImageDraw, ImageFont
from torch import Tensor

import ppl_vae as pv
from ppl_vae import data, estimators, evaluate, guides, likelihoods, models, nets, plots
from ppl_vae.evaluate.anomaly_scores import METHODS
from ppl_vae.runs import atomic_write

SHAPE = (1, 28, 28)


def make_pair(train: data.Split, latent_dim: int, hidden: tuple[int, ...], seed: int) -> pv.Pair:
    torch.manual_seed(seed)
    likelihood, decoder = likelihoods.Bernoulli(), nets.MLPDecoder(latent_dim, SHAPE, hidden[::-1])
    nets.centre_output(decoder, likelihood, train.mean()[None])
    encoder = nets.MLPEncoder(SHAPE, latent_dim, hidden)
    return pv.Pair(models.VAE(likelihood, decoder, latent_dim), guides.MeanField(encoder))


def letters(size: int, random: np.random.Generator) -> Tensor:
    """White capital letters, about as large and thick as the digits, turned and moved a little."""
    font = ImageFont.load_default(22)
    drawn = []
    for _ in range(size):
        letter = "ABCDEFGHJKLMNPQRSTUVWXYZ"[random.integers(24)]
        image = Image.new("L", (28, 28))
        box = font.getbbox(letter, stroke_width=1)
        at = (28 - box[2] - box[0]) / 2, (28 - box[3] - box[1]) / 2
        ImageDraw.Draw(image).text(at, letter, fill=255, font=font, stroke_width=1)
        moved = tuple(int(step) for step in random.integers(-1, 2, size=2))
        angle = float(random.uniform(-12, 12))
        drawn.append(np.asarray(image.rotate(angle, Image.Resampling.BILINEAR, translate=moved)))
    return torch.from_numpy(np.stack(drawn)).float().div(255)[:, None]


def kinds(grey: Tensor, size: int) -> dict[str, Tensor]:
    """Anomalies by kind, made of other test digits, `size` each, in [0, 1]."""
    own = grey[size : 2 * size]
    return {
        "rotated by 90 degrees": own.rot90(1, (-2, -1)),
        "inverted": 1 - own,
        "noisy (a tenth of the pixels flipped)": (own - (torch.rand(own.shape) < 0.1).float()).abs(),
        "noise alone": torch.rand(own.shape),
        "blank": torch.zeros_like(own),
        "letters": letters(size, np.random.default_rng(0)),
    }


def scores(pairs: dict[str, Any], x: Tensor, valid: Tensor, draws: int) -> dict[str, evaluate.Anomaly]:
    """Every score of all images."""
    others: dict[str, dict[str, Any]] = {
        "typicality": {"reference": valid},
        "ratio": {"others": pairs["simple"]},
        "waic": {"others": pairs["others"]},
    }
    found = {}
    for method in METHODS:
        started = time.perf_counter()
        found[method] = evaluate.anomaly(
            pairs["vae"], x, method, num_particles=draws, **others.get(method, {})
        )
        print(f"{method}: {time.perf_counter() - started:.0f} s", flush=True)
    return found


def table(found: dict[str, dict[str, float]]) -> list[str]:
    names = list(next(iter(found.values())))
    rows = [f"| {' | '.join(['anomalies', *names])} |", "|---" * (len(names) + 1) + "|"]
    for kind, areas in found.items():
        rows.append(f"| {kind} | {' | '.join(f'{areas[name]:.3f}' for name in names)} |")
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--epochs", type=int, default=6)
    parser.add_argument("--size", type=int, default=300, help="normal images, and anomalies of each kind")
    parser.add_argument("--draws", type=int, default=100)
    parser.add_argument("--runs", type=int, default=3, help="pairs of waic")
    parser.add_argument("--run-dir", type=Path, default=Path("runs/anomaly"), help="the pairs, trained once")
    parser.add_argument("--out", type=Path, default=Path("benchmarks/results/anomaly.json"))
    options = parser.parse_args()
    started = time.perf_counter()
    mnist = data.load("mnist", binarise="fixed")
    pairs: dict[str, Any] = {"others": []}
    for number in range(options.runs + 1):
        simple = number == options.runs
        path = options.run_dir / f"{number}"
        if not (path / "config.yaml").exists():
            pair = make_pair(mnist.train, 2 if simple else 20, (20,) if simple else (200, 200), number)
            budget = {"epochs": options.epochs, "batch_size": 200, "seed": number}
            pv.fit(
                pair, estimators.MeanFieldELBO(), mnist, run_dir=path, progress=False, device="cpu", **budget
            )
        pair = pv.load(path)
        if simple:
            pairs["simple"] = pair
        elif number:
            pairs["others"].append(pair)
        else:
            pairs["vae"] = pair
        print(f"pair {number}: {time.perf_counter() - started:.0f} s", flush=True)
    torch.manual_seed(0)
    grey = data.load("mnist", binarise=None).test.take(2 * options.size).tensors()[0]
    (valid,) = mnist.valid.take(options.size).tensors()
    normal = torch.bernoulli(grey[: options.size])
    strange = kinds(grey, options.size)
    everything = torch.cat([normal, *(torch.bernoulli(images) for images in strange.values())])
    results = scores(pairs, everything, valid, options.draws)
    labels = torch.arange(2 * options.size) >= options.size
    found: dict[str, dict[str, float]] = {}
    for number, kind in enumerate(strange, 1):
        rows = torch.cat([torch.arange(options.size), torch.arange(options.size) + number * options.size])
        own = {
            name: replace(each, score=each.score[rows]).with_labels(labels) for name, each in results.items()
        }
        found[kind] = {name: round(result.auroc, 4) for name, result in own.items()}
        if kind == "letters":
            plots.roc(own).figure.savefig(options.out.with_suffix(".png"), dpi=120)
    result = {
        "what": "areas under the receiver's curve, MNIST test digits against as many anomalies of a kind",
        "remarks": {name: each.remark for name, each in results.items()},
        "settings": {
            key: str(value) for key, value in vars(options).items() if key not in ("out", "run_dir")
        },
        "test ELBO": evaluate.bounds(pairs["vae"], normal, 10).elbo,
        "table": table(found),
        "auroc": found,
        "seconds": round(time.perf_counter() - started),
        "machine": {"torch": torch.__version__, "python": platform.python_version()},
    }
    text = json.dumps(result, indent=2)
    atomic_write(options.out, lambda temporary: temporary.write_text(text + "\n"))
    print("\n".join(result["table"]))


if __name__ == "__main__":
    main()
