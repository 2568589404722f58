"""200 Bernoulli latents on static MNIST: what five estimators reach in the same processor time.

The network is linear on both sides, 784-200-784, with learned logits of the prior: a sigmoid belief
network of one layer. Every estimator starts from the same weights and gets the same seconds of processor
time, in which a step of REBAR costs three of the score function's; Adam, batches of 100, one thread, not
captured. Judged by the ELBO with discrete draws on the test images, which is a bound under all of them, the
relaxed one too.

    PPL_VAE_DATA=... python benchmarks/discrete.py --seconds 240 --out benchmarks/results/discrete.json

The curve says how far this is from done, and the picture shows it, with images drawn from each.
"""

from __future__ import annotations

import argparse
import itertools
import json
import math
import platform
from collections.abc import Callable
from pathlib import Path
from typing import Any

import matplotlib.pyplot as plt
import torch
from budget import cosine, judged
from pyro.infer import ELBO

import ppl_vae as pv
from ppl_vae import data, estimators, evaluate, guides, likelihoods, models, nets, plots, priors
from ppl_vae.core.isolation import validation
from ppl_vae.runs import atomic_write
from ppl_vae.train.step import Step

SHAPE, LATENT = (1, 28, 28), 200
PUBLISHED = {
    "source": "Gumbel-Softmax, arXiv:1611.01144, table 1: -ELBO, 200 Bernoulli latents, static MNIST",
    "score function": 112.2,
    "DARN": 110.9,
    "MuProp": 109.7,
    "straight-through": 116.0,
    "Gumbel-Softmax": 105.0,
    "straight-through Gumbel-Softmax": 111.5,
}

METHODS: dict[str, tuple[Callable[[], ELBO], dict[str, Any]]] = {
    "score function, moving average": (estimators.ScoreFunction, {}),
    "DisARM": (estimators.DisARM, {}),
    "REBAR": (estimators.REBAR, {}),
    "VIMCO, 4 particles": (lambda: estimators.VIMCO(4), {}),
    "Gumbel-softmax, closed-form KL": (
        estimators.MeanFieldELBO,
        {"path": "gumbel-softmax", "temperature": 0.5},
    ),
}


def make_pair(train: data.Split, options: dict[str, Any]) -> pv.Pair:
    """The same weights at every call."""
    torch.manual_seed(0)
    decoder = nets.MLPDecoder(LATENT, SHAPE, hidden=())
    nets.centre_output(decoder, likelihoods.Bernoulli(), train.mean()[None])
    model = models.VAE(likelihoods.Bernoulli(), decoder, LATENT, priors.Bernoulli(LATENT))
    guide = guides.Bernoulli(nets.MLPEncoder(SHAPE, LATENT, hidden=()), **options)
    return pv.Pair(model, guide, example=(torch.zeros(1, *SHAPE),))


def train(
    pair: pv.Pair, estimator: ELBO, digits: data.DataSet, options: argparse.Namespace
) -> dict[str, Any]:
    """Steps until the time is over, with the validation bound on the way."""
    auxiliary = estimators.auxiliary_of(estimator)
    learned = [*pair.parameters(), *auxiliary.parameters()]
    optimizer = torch.optim.Adam(learned, lr=options.learning_rate)
    step = Step(pair, estimator, optimizer, check_finite=False, capture=True)
    few = digits.part("valid").take(500, seed=0)
    order = torch.Generator().manual_seed(0)
    epochs = (digits.train.indices(options.batch_size, shuffle_generator=order) for _ in itertools.count())
    indices = itertools.chain.from_iterable(epochs)

    def take_step(fraction: float) -> None:
        pair.train()
        step.set_learning_rate(cosine(options.learning_rate, fraction))
        with validation(False):
            step.on(digits.train, next(indices))

    def judge() -> dict[str, float]:
        return {"valid -ELBO": -evaluate.bounds(pair, few).elbo}

    return judged(take_step, judge, options.seconds, options.points)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--seconds", type=float, default=240.0, help="of processor time, for each")
    parser.add_argument("--points", type=int, default=12, help="of the curve")
    parser.add_argument("--batch-size", type=int, default=100)
    parser.add_argument("--learning-rate", type=float, default=1e-3)
    parser.add_argument("--test", type=int, default=10_000, help="test images")
    parser.add_argument("--out", type=Path, default=Path("benchmarks/results/discrete.json"))
    options = parser.parse_args()

    torch.set_num_threads(1)
    digits = data.load("static_mnist")
    result: dict[str, Any] = {
        "settings": {
            "network": "784-200-784, linear, learned prior logits",
            **{name: value for name, value in vars(options).items() if name != "out"},
            "optimizer": "Adam",
            "binarisation": "static",
        },
        "machine": {"processor": platform.machine(), "threads": 1, "torch": torch.__version__},
        "published": PUBLISHED,
        "methods": {},
    }
    figure, axes = plt.subplots(
        1 + len(METHODS), 1, figsize=(8, 10), height_ratios=[4] + [1] * len(METHODS), layout="constrained"
    )
    for (name, (make, path)), ax in zip(METHODS.items(), axes[1:], strict=True):
        print(name, flush=True)
        pair = make_pair(digits.train, path)
        torch.manual_seed(1)
        found = train(pair, make(), digits, options)
        test = evaluate.bounds(pair, digits.test.take(options.test, seed=0))
        spread = evaluate.log_likelihood(pair, digits.test.take(200, seed=0), 200, progress=False)
        result["methods"][name] = {
            "test -ELBO": -test.elbo,
            "standard error": test.standard_error,
            "KL": math.fsum(test.kl.values()),
            "-log p of 200 images, at most (200 draws)": -spread.value,
            **found,
        }
        times, heights = ([row[key] for row in found["curve"][1:]] for key in ("seconds", "valid -ELBO"))
        axes[0].plot(times, heights, marker="o", label=name)
        plots.samples(pv.sample(pair, 16, seed=0).mean, columns=16, ax=ax)
        ax.set_title(name, fontsize=9)
        text = json.dumps(result, indent=2)
        atomic_write(options.out, lambda path, text=text: path.write_text(text + "\n"))
    axes[0].set(
        xlabel="seconds of one processor", ylabel="-ELBO, 500 validation images, nats", ylim=(110, 150)
    )
    axes[0].legend()
    figure.savefig(options.out.with_suffix(".png"), bbox_inches="tight", dpi=80)
    print(text)


if __name__ == "__main__":
    main()
