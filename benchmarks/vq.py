"""A VQ-VAE on the bundled digits: its codebook by gradient and by moving averages, dead codes, a later prior.

Eight by eight images become four codes of sixteen values; nets of one hidden layer, Adam, one thread,
everything from the same seed. Judged by the ELBO on the test images, which is log p(x, z) at the
codes: with the uniform prior it pays four log 16 = 11.09 nats for them, and `pv.refit_prior` then fits an
autoregressive prior to the codes of the training images. "codes in use" counts the values, of 16, that any of
the four codes of a training image takes. A VAE of four normal latents with the same nets stands beside.

    python benchmarks/vq.py --epochs 150 --out benchmarks/results/vq.json
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

import ppl_vae as pv
from ppl_vae import data, estimators, evaluate, guides, kl, likelihoods, models, nets, plots, priors
from ppl_vae.runs import atomic_write

SHAPE, CODES, VALUES, DIM, HIDDEN = (1, 8, 8), 4, 16, 4, (100,)
CODEBOOKS: dict[str, dict[str, Any]] = {
    "by gradient": {},
    "by moving averages": {"moving": True},
    "by gradient, dead codes revived": {"revive_below": 0.1},
    "by moving averages, dead codes revived": {"moving": True, "revive_below": 0.1},
}
LEVELS = "four levels, drawn (HRQ-VAE)"


def quantised(options: dict[str, Any]) -> pv.Pair:
    """The same weights at every call."""
    torch.manual_seed(0)
    book = nets.Codebook(VALUES, DIM, **options)
    decoder = nets.CodebookDecoder(book, nets.MLPDecoder(CODES * DIM, SHAPE, HIDDEN))
    prior = priors.Categorical(CODES, VALUES, learned=False)
    model = models.VAE(likelihoods.Bernoulli(), decoder, CODES * VALUES, prior)
    return pv.Pair(model, guides.VectorQuantised(nets.MLPEncoder(SHAPE, CODES * DIM, HIDDEN), book))


def level_by_level() -> pv.Pair:
    """As many codes of as many values, each of which refines what those before it have left over."""
    torch.manual_seed(0)
    book = nets.ResidualCodebook(CODES, VALUES, CODES * DIM)
    decoder = nets.ResidualCodebookDecoder(book, nets.MLPDecoder(CODES * DIM, SHAPE, HIDDEN))
    prior = priors.Categorical(CODES, VALUES, learned=False)
    model = models.VAE(likelihoods.Bernoulli(), decoder, CODES * VALUES, prior)
    return pv.Pair(model, guides.ResidualQuantised(nets.MLPEncoder(SHAPE, CODES * DIM, HIDDEN), book))


def normal() -> pv.Pair:
    """The continuous one."""
    torch.manual_seed(0)
    model = models.VAE(likelihoods.Bernoulli(), nets.MLPDecoder(CODES, SHAPE, HIDDEN), CODES)
    return pv.Pair(model, guides.MeanField(nets.MLPEncoder(SHAPE, CODES, HIDDEN)))


def trained(pair: pv.Pair, digits: data.DataSet, options: argparse.Namespace, **more: Any) -> dict[str, Any]:
    """What a training gives and takes."""
    started = time.process_time()
    run = pv.fit(
        pair, estimators.MeanFieldELBO(), digits, epochs=options.epochs, batch_size=options.batch_size,
        learning_rate=options.learning_rate, progress=False, **more,
    )  # fmt: skip
    found = evaluate.bounds(pair, digits.test)
    return {
        "test ELBO": found.elbo,
        "standard error": found.standard_error,
        "reconstruction": found.reconstruction,
        "KL": found.kl["z"],
        "processor seconds": time.process_time() - started,
        "curve, valid ELBO": [round(each, 2) for each in run.history["valid_elbo"].tolist()],
    }


def with_codes(pair: pv.Pair, digits: data.DataSet, ax: Any) -> dict[str, Any]:
    """How many values are in use, and what a fitted prior gives; test digits, what is made of them, and draws
    with that prior.
    """
    codes = pv.encode(pair, *digits.train.tensors()).latents["z"]
    started = time.process_time()
    refit = pv.refit_prior(pair, digits.train, priors.Autoregressive(CODES, VALUES), patience=3)
    after = evaluate.bounds(refit.pair, digits.test)
    (x,) = digits.test.take(24).tensors()
    rows = [x, pv.reconstruct(pair, x, seed=0).mean, pv.sample(refit.pair, 24, seed=0).mean]
    plots.images(torch.cat(rows), columns=24, ax=ax)
    return {
        "codes in use": int(codes.sum((0, 1)).count_nonzero()),
        "test ELBO with the fitted prior": after.elbo,
        "KL with the fitted prior": after.kl["z"],
        "processor seconds of the prior": time.process_time() - started,
    }


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--epochs", type=int, default=150)
    parser.add_argument("--batch-size", type=int, default=50)
    parser.add_argument("--learning-rate", type=float, default=2e-3)
    parser.add_argument("--out", type=Path, default=Path("benchmarks/results/vq.json"))
    options = parser.parse_args()

    torch.set_num_threads(1)
    digits = data.load("digits")
    names = [*CODEBOOKS, LEVELS]
    figure, axes = plt.subplots(len(names), 1, figsize=(9, 1.6 * len(names)))
    result = codebooks(digits, options, axes)
    pair = level_by_level()
    result[LEVELS] = trained(pair, digits, options) | with_codes(pair, digits, axes[-1])
    for ax, name in zip(axes, names, strict=True):
        ax.set_title(f"{name}: test digits, reconstructions, draws with the fitted prior", fontsize=8)
    figure.savefig(options.out.with_suffix(".png"), bbox_inches="tight", dpi=80)
    text = json.dumps(result, indent=2)
    atomic_write(options.out, lambda path: path.write_text(text + "\n"))
    print(text)


def codebooks(digits: data.DataSet, options: argparse.Namespace, axes: Any) -> dict[str, Any]:
    """Those of the VQ-VAE, and the continuous one."""
    result: dict[str, Any] = {
        "settings": {
            "network": f"64-{HIDDEN[0]}-{CODES * DIM}-{HIDDEN[0]}-64, tanh",
            "codes": f"{CODES} of {VALUES} values, vectors of {DIM} numbers, uniform prior, commitment 0.25",
            **{name: value for name, value in vars(options).items() if name != "out"},
        },
        "machine": {"processor": platform.machine(), "threads": 1, "torch": torch.__version__},
        "codebook": {},
    }
    for (name, book), ax in zip(CODEBOOKS.items(), axes, strict=False):
        pair = quantised(book)
        result["codebook"][name] = trained(pair, digits, options, kl=kl.Commitment())
        result["codebook"][name] |= with_codes(pair, digits, ax)
        print(name, result["codebook"][name], flush=True)
    result["four normal latents"] = trained(normal(), digits, options)
    return result


if __name__ == "__main__":
    main()
