"""What `capture="auto"` reckons with: seconds to compile a step, and what each captured step saves.

Pairs of many sizes, each compiled after another one in its process, so that torch's own imports and headers
are there, with an empty cache for its kernels; times are of the processor, its compilers counted, on one
thread. Four constants of `ppl_vae/capture/worth.py` are the least squares, none below zero, of the
relative errors of

    seconds to compile = COMPILATION + COMPILATION_OF_ONE * operations
    seconds saved a step = SAVED_BY_STEP + SAVED_BY_NUMBER * numbers

A term for each operation in the latter comes out as zero.

    python benchmarks/worth.py --out benchmarks/results/worth.json
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from budget import processor_seconds
from scipy.optimize import nnls
from torch import Tensor, nn

import ppl_vae as pv
from ppl_vae import data, estimators, guides, likelihoods, models, nets
from ppl_vae.capture import worth
from ppl_vae.estimators import Estimator
from ppl_vae.runs import atomic_write
from ppl_vae.train import captured_step
from ppl_vae.train.step import Step

Make = Callable[[], tuple[pv.Pair, Estimator, tuple[Tensor, ...]]]


def dense(
    pixels: int, hidden: tuple[int, ...], latent_dim: int, batch: int, estimator: Estimator, guide: Any = None
) -> Make:
    """A VAE of bits, its guide of independent normals or `guide(pixels, latent_dim)`."""

    def make() -> tuple[pv.Pair, Estimator, tuple[Tensor, ...]]:
        decoder = nets.MLPDecoder(latent_dim, (pixels,), hidden)
        model = models.VAE(likelihoods.Bernoulli(1), decoder, latent_dim)
        encoder = guides.MeanField(nets.MLPEncoder((pixels,), latent_dim, hidden))
        used: nn.Module = encoder if guide is None else guide(pixels, latent_dim)
        return pv.Pair(model, used), estimator, (torch.rand(batch, pixels).round(),)

    return make


def flow(pixels: int, latent_dim: int) -> nn.Module:
    return guides.IAF(nets.MLPEncoder((pixels,), latent_dim, (128,)), num_transforms=2)


def convolutional() -> tuple[pv.Pair, Estimator, tuple[Tensor, ...]]:
    model = models.VAE(likelihoods.Bernoulli(), nets.ConvDecoder(20, (1, 28, 28)), 20)
    guide = guides.MeanField(nets.ConvEncoder((1, 28, 28), 20))
    return pv.Pair(model, guide), estimators.ELBO(), (torch.rand(64, 1, 28, 28).round(),)


def sequences(steps: int, batch: int) -> Make:
    """A deep Markov model of so many steps."""

    def make() -> tuple[pv.Pair, Estimator, tuple[Tensor, ...]]:
        decoder, transition = nets.MLPDecoder(16, (88,), (64,)), nets.GatedTransition(16, 32)
        model = models.DeepMarkov(likelihoods.Bernoulli(1), decoder, transition, 16)
        features = nets.Recurrent(88, 64, "backwards")
        guide = guides.Smoothing(features, nets.Combiner(16, features.num_features, 64), 16)
        pieces = torch.rand(batch, steps, 88).round(), torch.full((batch,), steps)
        return pv.Pair(model, guide), estimators.ELBO(), pieces

    return make


PAIRS: dict[str, Make] = {
    "dense 64-32-4, batch 64": dense(64, (32,), 4, 64, estimators.ELBO()),
    "dense 784-400-20, batch 128": dense(784, (400,), 20, 128, estimators.ELBO()),
    "dense 784-400-20, batch 1000": dense(784, (400,), 20, 1000, estimators.ELBO()),
    "dense 784-200-200-50, batch 20, 50 particles": dense(784, (200, 200), 50, 20, estimators.IWAE(50)),
    "dense 784-200-200-50, batch 100, DReG of 5": dense(784, (200, 200), 50, 100, estimators.DReG(5)),
    "IAF, 784-128-20, batch 100": dense(784, (128,), 20, 100, estimators.ELBO(), flow),
    "convolutional, batch 64": convolutional,
    "deep Markov, 8 steps, batch 32": sequences(8, 32),
    "deep Markov, 24 steps, batch 20": sequences(24, 20),
}


def measure(make: Make, repeats: int) -> dict[str, float]:
    """What a step has, what compiling it takes and what it saves, in the processor's seconds."""
    torch.manual_seed(0)
    pair, estimator, batch = make()
    size = len(batch[0])
    split = data.Split.from_tensors(**{f"x{i}": each for i, each in enumerate(batch)})
    optimizer = torch.optim.Adam(pair.parameters())
    noted: list[tuple[int, int]] = []

    def note(recording: Any, *_: Any) -> bool:
        noted.append((len(recording.entries), recording.numbers))
        return True

    captured_step.worth_capturing = note
    index, seconds = torch.arange(size), {}
    for captured in (False, True):
        step = Step(pair, estimator, optimizer, capture="auto" if captured else False, steps={size: 10**9})
        started = processor_seconds()
        step.on(split, index)
        first, times = processor_seconds() - started, []
        for _ in range(repeats):
            started = time.process_time()
            step.on(split, index)
            times.append(time.process_time() - started)
        seconds[captured] = first, statistics.fmean(sorted(times)[: repeats * 3 // 4])
        assert not captured or step.captured is not None
    operations, numbers = noted[0]
    return {
        "operations": operations,
        "numbers": numbers,
        "to compile": seconds[True][0] - seconds[True][1],
        "step as written": seconds[False][1],
        "step captured": seconds[True][1],
        "saved": seconds[False][1] - seconds[True][1],
    }


def fitted(rows: list[dict[str, float]]) -> dict[str, float]:
    """The constants whose relative errors have the least squares."""
    operations, numbers, compiling, saved = (
        np.array([row[name] for row in rows]) for name in ("operations", "numbers", "to compile", "saved")
    )
    ones = np.ones(len(rows))
    base, of_one = nnls(np.stack([ones, operations], 1) / compiling[:, None], ones)[0]
    by_step, by_number = nnls(np.stack([ones, numbers], 1) / saved[:, None], ones)[0]
    return {
        "COMPILATION": base,
        "COMPILATION_OF_ONE": of_one,
        "SAVED_BY_STEP": by_step,
        "SAVED_BY_NUMBER": by_number,
    }


def main() -> None:
    """Every pair after a first one that is not counted."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--repeats", type=int, default=60)
    parser.add_argument("--out", type=Path, required=True)
    options = parser.parse_args()
    os.environ["TORCHINDUCTOR_CACHE_DIR"] = tempfile.mkdtemp(prefix="worth_")
    torch.set_num_threads(1)
    measure(dense(50, (30,), 3, 10, estimators.ELBO()), 2)
    rows = {}
    for name, make in PAIRS.items():
        rows[name] = measure(make, options.repeats)
        print(name, {key: round(value, 4) for key, value in rows[name].items()}, flush=True)
    result = {
        "settings": {"threads": 1, "times": "of the processor", "torch": torch.__version__},
        "pairs": rows,
        "fitted": fitted(list(rows.values())),
        "in use": {name: getattr(worth, name) for name in fitted(list(rows.values()))},
    }
    text = json.dumps(result, indent=2)
    print(text)
    atomic_write(options.out, lambda path: path.write_text(text + "\n"))


if __name__ == "__main__":
    main()
