"""The one-layer network of the IWAE paper on MNIST: `fit` beside a hand-written PyTorch loop, in one run.

Both train on dynamically binarised MNIST with the same layer sizes, initialisation, optimizer, schedule
and closed-form KL, and are judged by the same importance-sampling estimate of -log p(x). Then both
train short epochs in turn, so that the ratio of their times is fair on a busy machine.

    PPL_VAE_DATA=... python benchmarks/mnist.py --epochs 100 --out benchmarks/results/mnist.json
"""

from __future__ import annotations

import argparse
import itertools
import json
import math
import os
import platform
import statistics
import time
from pathlib import Path

import torch
from torch import nn
from torch.nn import functional
from tqdm.auto import tqdm

import ppl_vae as pv
from ppl_vae import data, estimators, evaluate, guides, likelihoods, models, nets
from ppl_vae.runs import atomic_write
from ppl_vae.train.optimizers import SCHEDULES

SHAPE, LATENT, HIDDEN = (1, 28, 28), 50, (200, 200)


def make_pair(train: data.Split) -> pv.Pair:
    """The paper's network: tanh, 784-200-200-50, output bias from the data's mean."""
    likelihood = likelihoods.Bernoulli()
    decoder = nets.MLPDecoder(LATENT, SHAPE, HIDDEN)
    nets.centre_output(decoder, likelihood, train.mean()[None])
    return pv.Pair(
        models.VAE(likelihood, decoder, LATENT),
        guides.MeanField(nets.MLPEncoder(SHAPE, LATENT, HIDDEN)),
        example=(torch.zeros(1, *SHAPE),),
    )


class HandWritten(nn.Module):
    """What one writes without a library: two Sequentials and the closed-form KL."""

    def __init__(self, mean: torch.Tensor) -> None:
        super().__init__()

        def tanh_layers(*sizes: int) -> list[nn.Module]:
            layers: list[nn.Module] = []
            for inputs, outputs in itertools.pairwise(sizes):
                layers += [nn.Linear(inputs, outputs), nn.Tanh()]
            return layers

        self.encoder = nn.Sequential(*tanh_layers(784, *HIDDEN), nn.Linear(HIDDEN[-1], 2 * LATENT))
        self.decoder = nn.Sequential(*tanh_layers(LATENT, *HIDDEN), nn.Linear(HIDDEN[-1], 784))
        for layer in self.modules():
            if isinstance(layer, nn.Linear):
                nn.init.xavier_uniform_(layer.weight)
                nn.init.zeros_(layer.bias)
        mean = mean.flatten().clamp(1e-3, 1 - 1e-3)
        self.decoder[-1].bias.data = (mean / (1 - mean)).log()

    def loss(self, x: torch.Tensor) -> torch.Tensor:
        loc, log_scale = self.encoder(x).chunk(2, -1)
        z = loc + log_scale.exp() * torch.randn_like(loc)
        logits = self.decoder(z)
        reconstruction = functional.binary_cross_entropy_with_logits(logits, x, reduction="sum")
        divergence = 0.5 * (loc.square() + (2 * log_scale).exp() - 1 - 2 * log_scale).sum()
        return (reconstruction + divergence) / len(x)

    @torch.no_grad()
    def log_likelihood(self, x: torch.Tensor, num_particles: int) -> torch.Tensor:
        """log p(x_i) by importance sampling, (B,)."""
        loc, log_scale = self.encoder(x).chunk(2, -1)
        chunks = []
        for size in [50] * (num_particles // 50):
            noise = torch.randn(size, *loc.shape)
            z = loc + log_scale.exp() * noise
            likelihood = (x * (logits := self.decoder(z)) - functional.softplus(logits)).sum(-1)
            ratio = (-0.5 * z.square() + 0.5 * noise.square() + log_scale).sum(-1)
            chunks.append(likelihood + ratio)
        log_weight = torch.cat(chunks).double()
        return log_weight.logsumexp(0) - math.log(len(log_weight))


def train_by_hand(net: HandWritten, x: torch.Tensor, epochs: int, batch: int, progress: bool) -> list[float]:
    """The usual loop; seconds of each epoch."""
    optimizer = torch.optim.Adam(net.parameters(), lr=1e-3)
    steps, step, seconds = epochs * math.ceil(len(x) / batch), 0, []
    for _ in tqdm(range(epochs), disable=not progress, desc="hand-written"):
        started = time.perf_counter()
        for index in torch.randperm(len(x)).split(batch):
            for group in optimizer.param_groups:
                group["lr"] = 1e-3 * SCHEDULES["cosine"](step / steps)
            binary = torch.bernoulli(x[index])
            optimizer.zero_grad()
            net.loss(binary).backward()
            optimizer.step()
            step += 1
        seconds.append(time.perf_counter() - started)
    return seconds


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--epochs", type=int, default=100)
    parser.add_argument("--batch", type=int, default=100)
    parser.add_argument("--num-particles", type=int, default=1000, help="K of the test log-likelihood")
    parser.add_argument("--repeats", type=int, default=7, help="alternating one-epoch timings")
    parser.add_argument("--out", type=Path, default=Path("benchmarks/results/mnist.json"))
    options = parser.parse_args()

    # Lightning has torch ask NVML for a GPU at every optimizer step, which a hand-written loop would not
    os.environ.pop("PYTORCH_NVML_BASED_CUDA_CHECK", None)
    mnist = data.load("mnist")
    whole = data.DataSet("mnist", _all_training_images(mnist), mnist.valid, mnist.test)
    floats = whole.train.rows.tensor.float().div(255).flatten(1)  # type: ignore[union-attr]
    fitting = {"batch_size": options.batch, "schedule": "cosine", "device": "cpu", "check": False}

    torch.manual_seed(0)
    pair, net = make_pair(whole.train), HandWritten(whole.train.mean())
    run = pv.fit(pair, estimators.MeanFieldELBO(), whole.train, epochs=options.epochs, **fitting)
    ours = evaluate.log_likelihood(pair, whole.test, num_particles=options.num_particles)
    train_by_hand(net, floats, options.epochs, options.batch, progress=True)
    test = whole.test.tensors()[0].flatten(1)
    theirs = torch.cat([net.log_likelihood(x, options.num_particles) for x in test.split(100)])

    times: list[tuple[float, float, float]] = []
    for _ in range(options.repeats):
        seconds = []
        for capture in (False, True):  # the second epoch, since the first holds what is done once
            run = pv.fit(
                pair,
                estimators.MeanFieldELBO(),
                whole.train,
                epochs=2,
                progress=False,
                capture=capture,
                **fitting,
            )
            seconds.append(run.history["seconds"].iloc[-1])
        times.append((*seconds, train_by_hand(net, floats, 2, options.batch, False)[-1]))

    result = {
        "settings": {
            "network": "784-200-200-50, tanh, Bernoulli",
            "binarisation": "dynamic; the test set drawn once",
            "training images": len(whole.train),
            "epochs": options.epochs,
            "batch": options.batch,
            "optimizer": "Adam, 1e-3, cosine to zero",
            "num_particles of the test": options.num_particles,
        },
        "machine": {
            "processor": platform.processor() or platform.machine(),
            "threads": torch.get_num_threads(),
            "torch": torch.__version__,
            "python": platform.python_version(),
        },
        "fit": {
            "-log p": -ours.value,
            "standard error": ours.standard_error,
            "captured (capture='auto')": "capture_seconds" in run.history,
        },
        "hand-written": {
            "-log p": -theirs.mean().item(),
            "standard error": theirs.std().item() / math.sqrt(len(theirs)),
        },
        "difference in nats": theirs.mean().item() - ours.value,
        "seconds an epoch (medians of alternating epochs)": {
            "fit, not captured": statistics.median(eager for eager, _, _ in times),
            "fit, captured": statistics.median(captured for _, captured, _ in times),
            "hand-written": statistics.median(hand for _, _, hand in times),
            "fit, not captured / hand-written": statistics.median(eager / hand for eager, _, hand in times),
            "fit, captured / hand-written": statistics.median(captured / hand for _, captured, hand in times),
        },
        "decoder passes per second in the evaluation": ours.decoder_passes_per_second,
    }
    text = json.dumps(result, indent=2)
    print(text)
    atomic_write(options.out, lambda path: path.write_text(text + "\n"))


def _all_training_images(mnist: data.DataSet) -> data.Split:
    """The literature trains on all 60,000: train and valid together, binarised afresh at every batch."""
    raw = data.load("mnist", binarise=None)
    rows = torch.cat([part.rows.tensor for part in (raw.train, raw.part("valid"))])  # type: ignore[union-attr]
    return data.Split(data.rows.ResidentRows(rows), divisor=255.0, dynamic=True)


if __name__ == "__main__":
    main()
