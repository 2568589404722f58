"""The zoo on static MNIST: each pair under the same small budget, and one table.

Every pair has the same layer sizes and initial output bias, the same estimator, optimizer, warm-up of
the KL term, number of epochs and captured step; the weights with the best validation bound are kept and
judged on the 10,000 test images. The result is written after each pair: the same command goes on where
it was interrupted and repeats no pair that is in the result with the same settings. What was expected of
the order of the pairs stands in the result beside what came out, paired over the test data.

    PPL_VAE_DATA=... python benchmarks/zoo.py --out benchmarks/results/zoo.json
    PPL_VAE_DATA=... python benchmarks/zoo.py --time       # the times anew, in one run on a quiet machine
"""

from __future__ import annotations

import argparse
import json
import platform
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

import ppl_vae as pv
from ppl_vae import data, estimators, evaluate, guides, kl, likelihoods, models, nets, priors
from ppl_vae.capture import CaptureError
from ppl_vae.runs import atomic_write

SHAPE, LATENT, HIDDEN = (1, 28, 28), 40, (300, 300)
LATENTS = 100, 50  # of two layers, the lower first: those of the IWAE paper, arXiv:1509.00519
ACTIVATION = "gated"  # the nets of the VampPrior paper, arXiv:1705.07120
FIRST_WEIGHT = 0.1  # without any KL term a full covariance degenerates within some steps


def encoder() -> nets.MLPEncoder:
    return nets.MLPEncoder(SHAPE, LATENT, HIDDEN, activation=ACTIVATION)


def vae(
    train: data.Split,
    guide: Callable[[nets.Encoder], nn.Module] = guides.MeanField,
    prior: Callable[[nets.Encoder], nn.Module] | None = None,
) -> pv.Pair:
    """One layer; the prior may look at the guide's encoder."""
    decoder = nets.MLPDecoder(LATENT, SHAPE, HIDDEN, activation=ACTIVATION)
    likelihood, shared = likelihoods.Bernoulli(), encoder()
    nets.centre_output(decoder, likelihood, train.mean()[None])
    made = None if prior is None else prior(shared)
    return pv.Pair(models.VAE(likelihood, decoder, LATENT, made), guide(shared))


def vamp(train: data.Split) -> pv.Pair:
    """500 pseudo-inputs, as in the paper, which start at data."""
    pair = vae(train, prior=lambda shared: priors.VampPrior(shared, num_components=500))
    pair.model.prior.initialise(train)
    return pair


def two_layers(train: data.Split, top_down: bool) -> pv.Pair:
    """The first layers as above; the second stochastic layer has the sizes of arXiv:1509.00519."""
    hidden = (HIDDEN, (100, 100))
    likelihood = likelihoods.Bernoulli()
    model = models.LadderVAE.dense(likelihood, SHAPE, LATENTS, hidden, activation=ACTIVATION)
    nets.centre_output(model.decoder, likelihood, train.mean()[None])
    if top_down:
        guide: nn.Module = guides.TopDown.dense(SHAPE, model.layers, LATENTS, hidden, activation=ACTIVATION)
    else:
        guide = guides.BottomUp.dense(SHAPE, LATENTS, hidden, activation=ACTIVATION)
    return pv.Pair(model, guide)


PAIRS: dict[str, Callable[[data.Split], pv.Pair]] = {
    "mean field": vae,
    "full rank": lambda train: vae(train, guides.FullRank),
    "planar": lambda train: vae(train, guides.Planar),
    "Sylvester": lambda train: vae(train, lambda shared: guides.Sylvester(shared, num_columns=16)),
    "IAF": lambda train: vae(train, guides.IAF),
    "spline": lambda train: vae(train, guides.Spline),
    "VampPrior": vamp,
    "mixture prior": lambda train: vae(train, prior=lambda _: priors.MixtureOfGaussians(LATENT, 500)),
    "flow prior": lambda train: vae(train, prior=lambda _: priors.Flow(LATENT)),
    "two layers, bottom-up guide": lambda train: two_layers(train, top_down=False),
    "two layers, top-down guide": lambda train: two_layers(train, top_down=True),
}


def train(name: str, mnist: data.DataSet, options: argparse.Namespace) -> tuple[pv.Pair, pv.Run]:
    """One pair of the zoo, trained."""
    torch.manual_seed(0)
    pair = PAIRS[name](mnist.train)
    run = pv.fit(
        pair,
        estimators.MeanFieldELBO(),
        mnist,
        epochs=options.epochs,
        batch_size=options.batch,
        learning_rate=options.learning_rate,
        schedule="cosine",
        kl=kl.LinearWarmup(options.warm_up, start=FIRST_WEIGHT),
        patience=options.epochs,
        validate_every=2,
        device="cpu",
        capture=True,
        progress=False,
    )
    return pair, run


def judge(
    pair: pv.Pair, test: data.Split, num_particles: int
) -> tuple[dict[str, Any], dict[str, np.ndarray]]:
    """What the table says of a trained pair, and the test data's own log p and ELBO."""
    started = time.perf_counter()
    bounds = evaluate.bounds(pair, test, num_particles=10)
    likelihood = evaluate.log_likelihood(pair, test, num_particles=num_particles, progress=False)
    units = evaluate.active_units(pair, test, num_particles=10)
    row = {
        "-log p": -likelihood.value,
        "standard error": likelihood.standard_error,
        "lower bound": likelihood.is_lower_bound,
        "Monte Carlo error": None if likelihood.is_lower_bound else likelihood.monte_carlo_standard_error,
        "k-hat above the limit": likelihood.share_unreliable,
        "ELBO": bounds.elbo,
        "ELBO standard error": bounds.standard_error,
        "reconstruction": bounds.reconstruction,
        "KL": dict(bounds.kl),
        "active units": dict(units.count),
        "parameters": sum(parameter.numel() for parameter in pair.parameters() if parameter.requires_grad),
        "judged in seconds": time.perf_counter() - started,
    }
    return row, {"log_p": likelihood.per_datum.numpy(), "elbo": bounds.per_datum.numpy()}


def seconds_an_epoch(name: str, mnist: data.DataSet, options: argparse.Namespace) -> float:
    """Of the pair's captured training, scaled up from a tenth of the data."""
    torch.manual_seed(0)
    few = mnist.train.take(5_000)
    budget = {"epochs": 4, "batch_size": options.batch, "device": "cpu", "capture": True, "progress": False}
    run = pv.fit(PAIRS[name](mnist.train), estimators.MeanFieldELBO(), few, schedule="cosine", **budget)
    return float(run.history["seconds"].iloc[1:].min()) * len(mnist.train) / len(few)


def expectations(pairs: dict[str, Any], run_dir: Path) -> list[dict[str, Any]]:
    """What theory and the literature let one expect, and what came out, in nats,
    paired over the test data.
    """
    vaes = ("IAF", "spline", "Sylvester")
    claims = [("log_p", "VampPrior", "mean field", 1.0)]
    claims += [("elbo", name, "mean field", 0.5) for name in vaes]
    claims += [
        ("log_p", f"two layers, {guide} guide", "mean field", 0.5) for guide in ("bottom-up", "top-down")
    ]
    claims += [("elbo", "full rank", "mean field", 0.0), *[("elbo", name, "full rank", 0.0) for name in vaes]]
    found = []
    for measure, better, worse, least in claims:
        files = [run_dir / f"{name}.npz" for name in (better, worse)]
        if not {better, worse} <= pairs.keys() or not all(file.exists() for file in files):
            continue
        first, second = (np.load(file)[measure] for file in files)
        apart = first - second
        found.append(
            {
                "claim": f"{measure}: {better} over {worse} by {least:g} or more",
                "difference": float(apart.mean()),
                "standard error": float(apart.std(ddof=1) / len(apart) ** 0.5),
                "came out": bool(apart.mean() >= least),
            }
        )
    return found


def table(rows: dict[str, dict[str, Any]]) -> str:
    """The result in Markdown."""
    lines = [
        "| pair | -log p | ± | ELBO | KL | active units | parameters | s / epoch |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for name, row in rows.items():
        units = " + ".join(map(str, row["active units"].values()))
        divergence = " + ".join(f"{value:.1f}" for value in row["KL"].values())
        lines.append(
            f"| {name} | {row['-log p']:.2f} | {row['standard error']:.2f} | {row['ELBO']:.2f} | "
            f"{divergence} | {units} | {row['parameters']:,} | {row['seconds an epoch']:.1f} |"
        )
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--epochs", type=int, default=30)
    parser.add_argument(
        "--warm-up", type=float, default=6.0, help="epochs in which the KL's weight rises to 1"
    )
    parser.add_argument("--batch", type=int, default=100)
    parser.add_argument("--learning-rate", type=float, default=1e-3)
    parser.add_argument("--test", type=int, default=10_000, help="test data that the pairs are judged on")
    parser.add_argument("--num-particles", type=int, default=1000, help="K of the test log-likelihood")
    parser.add_argument("--pairs", nargs="+", choices=list(PAIRS), default=list(PAIRS))
    parser.add_argument(
        "--time", action="store_true", help="measure the seconds an epoch of the pairs in the result"
    )
    parser.add_argument("--run-dir", type=Path, default=Path("runs/benchmark-zoo"))
    parser.add_argument("--out", type=Path, default=Path("benchmarks/results/zoo.json"))
    options = parser.parse_args()
    mnist = data.load("static_mnist")
    test = mnist.test.take(options.test)
    settings = {
        "data": repr(mnist),
        "layers": f"{HIDDEN}, {ACTIVATION}, {LATENT} latent dims",
        "estimator": "MeanFieldELBO: the KL in closed form where there is one",
        "KL weight": f"from {FIRST_WEIGHT} to 1 in {options.warm_up:g} epochs",
        "optimizer": f"Adam, {options.learning_rate:g}, cosine to zero",
        "batch": options.batch,
        "epochs": options.epochs,
        "kept": "the weights of the best validation bound, of every second epoch",
        "test data": len(test),
        "num_particles of the test": options.num_particles,
    }
    if options.time:
        result = read(options.out)
        for name, row in result["pairs"].items():
            row["seconds an epoch"] = seconds_an_epoch(name, mnist, options)
            print(f"{name}: {row['seconds an epoch']:.2f} s", flush=True)
        write(options.out, result, options.run_dir)
        return
    failed = []
    for name in options.pairs:
        result = read(options.out)
        known = result["pairs"].get(name)
        if known is not None and known["settings"] == settings:
            print(f"{name}: there already", flush=True)
            continue
        try:
            pair, run = train(name, mnist, options)
        except (pv.TrainingError, CaptureError) as error:
            failed.append(name)
            print(f"{name}: {error}", flush=True)
            continue
        row, per_datum = judge(pair, test, options.num_particles)
        row |= {
            "seconds an epoch": float(run.history["seconds"].iloc[1:].median()),
            "seconds of compilation": float(run.history["capture_seconds"].iloc[-1]),
            "best epoch": run.best_epoch,
            "settings": settings,
        }
        options.run_dir.mkdir(parents=True, exist_ok=True)
        atomic_write(options.run_dir / f"{name}.npz", lambda path, kept=per_datum: np.savez(path, **kept))
        result = read(options.out)
        result["pairs"][name] = row
        write(options.out, result, options.run_dir)
        print(table(result["pairs"]), flush=True)
    write(options.out, read(options.out), options.run_dir)
    if failed:
        raise SystemExit(f"failed: {', '.join(failed)}")


def read(path: Path) -> dict[str, Any]:
    return json.loads(path.read_text()) if path.exists() else {"pairs": {}}


def write(path: Path, result: dict[str, Any], run_dir: Path) -> None:
    """The result with its table, its pairs in the table's order."""
    pairs = {name: result["pairs"][name] for name in PAIRS if name in result["pairs"]}
    machine = {
        "processor": platform.processor() or platform.machine(),
        "threads": torch.get_num_threads(),
        "torch": torch.__version__,
        "python": platform.python_version(),
    }
    result |= {"machine": machine, "pairs": pairs, "table": table(pairs).splitlines()}
    if known := expectations(pairs, run_dir):
        result["expected"] = known
    text = json.dumps(result, indent=2)
    atomic_write(path, lambda temporary: temporary.write_text(text + "\n"))


if __name__ == "__main__":
    main()
