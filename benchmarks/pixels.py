"""A VAE whose decoder draws its pixels one after the other, beside published figures.

Static MNIST: PixelRNN 79.20 and VLAE 79.03 nats (arXiv:1611.02731, 4,096 importance draws); the curve of
what is trained here. Then what a drawn image costs with kept activations and without, and on the bundled
digits what the net's reach and free bits do to the KL term.

    PPL_VAE_DATA=... python benchmarks/pixels.py --seconds 3600 --out benchmarks/results/pixels.json
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
from budget import Budget, cosine
from torch import Tensor, nn

import ppl_vae as pv
from ppl_vae import data, estimators, evaluate, guides, kl, likelihoods, models, nets, plots
from ppl_vae.distributions.autoregressive import Autoregressive
from ppl_vae.runs import atomic_write
from ppl_vae.train.step import Step

RATE = 3e-3
PUBLISHED = {
    "VLAE": 79.03,
    "PixelRNN": 79.20,
    "IAF-VAE": 79.88,
    "factorised, dense (arXiv:1509.00519)": 87.10,
}


def make_pair(
    shape: tuple[int, ...],
    latent_dim: int,
    dilations: tuple[int, ...],
    channels: int,
    mean: Tensor,
    hidden: int,
    first_kernel: int = 5,
) -> pv.Pair:
    """Dense nets around a PixelCNN, whose context has seven channels beside the logits."""
    elements = likelihoods.Bernoulli()
    net = nets.PixelCNN(
        shape, 1, channels, dilations, first_kernel=first_kernel, context_channels=8, activation="relu"
    )
    likelihood = likelihoods.Autoregressive(elements, net)
    decoder = nets.MLPDecoder(latent_dim, likelihood.raw_shape(shape), (hidden,), "elu")
    nets.centre_output(decoder, likelihood, mean[None])
    encoder = nets.MLPEncoder(shape, latent_dim, (hidden, hidden), "elu")
    return pv.Pair(
        models.VAE(likelihood, decoder, latent_dim), guides.MeanField(encoder), example=(mean[None].round(),)
    )


def train(pair: pv.Pair, mnist: data.DataSet, budget: Budget) -> list[dict[str, float]]:
    """Captured steps of 50 images until the budget is used up; the rate falls to zero along a cosine."""
    optimizer = torch.optim.Adam(pair.parameters(), lr=RATE, betas=(0.9, 0.99))
    step = Step(pair, estimators.MeanFieldELBO(), optimizer, capture=True)
    curve: list[dict[str, float]] = []
    seen = 0
    while True:
        for index in torch.randperm(len(mnist.train)).split(50):
            used = budget.fraction()
            if used >= min(1, (len(curve) + 1) / 20):
                bounds = evaluate.bounds(pair, mnist.valid.take(500))
                means = {f"train {name}": mean for name, mean in step.pop_means().items()}
                curve.append(
                    {"images": seen, "valid -ELBO": -bounds.elbo, "valid KL": bounds.kl["z"], **means}
                )
                print(curve[-1], flush=True)
            if used >= 1:
                return curve
            step.set_learning_rate(cosine(RATE, used))
            step.on(mnist.train, index)
            seen += len(index)


def static_mnist(options: argparse.Namespace) -> tuple[pv.Pair, dict[str, Any]]:
    """Train, and judge on test images."""
    mnist = data.load("static_mnist")
    torch.manual_seed(0)
    pair = make_pair(mnist.shape, 32, (1,) * options.blocks, options.channels, mnist.train.mean(), 300)
    budget = Budget(options.seconds, options.wall)
    curve = train(pair, mnist, budget)
    trained = dict(zip(("processor seconds", "seconds"), budget.used(), strict=True))
    some, few = mnist.test.take(options.images), mnist.test.take(100)
    bounds = evaluate.bounds(pair, some)
    found = evaluate.log_likelihood(pair, few, options.num_particles, progress=False)
    result = {
        "network": f"784-300-300-32, 32-300-8x28x28, PixelCNN {options.channels} channels, "
        f"{options.blocks} blocks of 3 x 3, first layer 5 x 5: each pixel sees {options.blocks + 2} to each "
        "side",
        "training": f"{curve[-1]['images'] / 50_000:.2f} epochs of 50,000, batch 50, Adam, a rate of {RATE} "
        "that falls to zero",
        **trained,
        f"test -ELBO ({options.images:,} images)": -bounds.elbo,
        "standard error": bounds.standard_error,
        "reconstruction": -bounds.reconstruction,
        "KL": bounds.kl["z"],
        f"test -log p <= (100 images, {options.num_particles} draws)": -found.value,
        "-ELBO of the same": -evaluate.bounds(pair, few).elbo,
        "published -log p": PUBLISHED,
        "curve": curve,
        "parameters": sum(each.numel() for each in pair.parameters()),
    }
    figure, axes = plt.subplots(3, 1, figsize=(9, 5), height_ratios=[1, 1, 3], layout="constrained")
    started = time.process_time()
    plots.samples(pv.sample(pair, 40, seed=0).value, columns=20, ax=axes[0])
    result["processor seconds for 40 samples"] = time.process_time() - started
    x = mnist.test.take(20).tensors()[0]
    plots.reconstructions(x, pv.reconstruct(pair, x, seed=0).value, columns=20, ax=axes[1])
    images = [row["images"] for row in curve]
    axes[2].plot(
        images, [row["valid -ELBO"] for row in curve], marker="o", label="-ELBO, 500 validation images"
    )
    axes[2].axhline(PUBLISHED["VLAE"], linestyle=":", label="VLAE, -log p")
    axes[2].set(xlabel="images seen", ylabel="nats")
    axes[2].legend()
    figure.savefig(options.out.with_suffix(".png"), bbox_inches="tight", dpi=100)
    return pair, result


def sampling_costs(pair: pv.Pair, counts: tuple[int, ...] = (1, 4)) -> dict[str, Any]:
    """Processor seconds an image with kept activations and with a pass for each pixel; whether they agree."""

    class Plain(nn.Module):
        def __init__(self, net: nn.Module) -> None:
            super().__init__()
            self.net, self.raw_channels = net, net.raw_channels

        def forward(self, x: Tensor, context: Tensor) -> Tensor:
            out: Tensor = self.net(x, context)
            return out

    likelihood: Any = pair.model.likelihood
    found = {}
    for count in counts:
        with torch.no_grad():
            context = pair.model.decoder(torch.randn(count, pair.model.latent_dim))
        drawn, seconds = [], []
        for net in (likelihood.net, Plain(likelihood.net)):
            torch.manual_seed(0)
            started = time.process_time()
            drawn.append(Autoregressive(net, likelihood.likelihood, context).sample())
            seconds.append((time.process_time() - started) / count)
        found[f"{count} at once"] = {
            "kept, s an image": seconds[0],
            "anew, s an image": seconds[1],
            "anew / kept": seconds[1] / seconds[0],
            "the same bits": bool(torch.equal(*drawn)),
        }
    return found


def collapse(epochs: int) -> dict[str, Any]:
    """The KL term of small pairs on the digits, by what the net sees and by free bits."""
    digits = data.load("digits", binarise="fixed")
    found = {}
    cases: dict[str, tuple[tuple[int, ...], int, Any]] = {
        "whole image": ((1, 2, 4), 5, 1.0),
        "whole image, free bits": ((1, 2, 4), 5, kl.FreeBits(1.0)),
        "one pixel to each side": ((), 3, 1.0),
        "the pixel above alone": ((), 1, 1.0),
    }
    for name, (dilations, first_kernel, treatment) in cases.items():
        torch.manual_seed(0)
        pair = make_pair(digits.shape, 8, dilations, 16, digits.train.mean(), 100, first_kernel)
        started = time.process_time()
        pv.fit(
            pair, estimators.MeanFieldELBO(), digits, epochs=epochs, batch_size=50, learning_rate=2e-3,
            kl=treatment, progress=False, capture=False, device="cpu", patience=20,
        )  # fmt: skip
        bounds = evaluate.bounds(pair, digits.test, 10)
        found[name] = {
            "test -ELBO": -bounds.elbo,
            "KL": bounds.kl["z"],
            "active units": sum(evaluate.active_units(pair, digits.test).count.values()),
            "processor seconds": time.process_time() - started,
        }
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--seconds", type=float, default=3600, help="of processor time, for the training")
    parser.add_argument("--wall", type=float, default=7200, help="seconds after which it ends all the same")
    parser.add_argument("--channels", type=int, default=32)
    parser.add_argument("--blocks", type=int, default=4)
    parser.add_argument("--images", type=int, default=2000, help="of the test, for the bound")
    parser.add_argument("--num-particles", type=int, default=50)
    parser.add_argument("--digit-epochs", type=int, default=60)
    parser.add_argument("--out", type=Path, default=Path("benchmarks/results/pixels.json"))
    options = parser.parse_args()
    machine = {"processor": platform.processor() or platform.machine(), "torch": torch.__version__}
    result: dict[str, Any] = {"machine": {**machine, "threads": torch.get_num_threads()}}

    def keep() -> None:
        atomic_write(options.out, lambda path: path.write_text(json.dumps(result, indent=2) + "\n"))

    pair, result["static MNIST"] = static_mnist(options)
    keep()
    result["a drawn image of 28 x 28"] = sampling_costs(pair)
    keep()
    result["digits, collapse"] = collapse(options.digit_epochs)
    keep()
    print(json.dumps(result, indent=2))


if __name__ == "__main__":
    main()
