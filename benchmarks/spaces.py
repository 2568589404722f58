"""Four small questions on the bundled digits: clusters, a missing view, Hamiltonian steps, flat and curved.

1. Clusters: a VAE's mixture prior (VaDE), started at the trained codes, against k-means of the pixels and of
   the codes and against the mixture at its start; scored on the test digits, whose labels nothing has seen.
2. Two views: the left and the right half of each digit, of which one is missing; what the experts say the
   other half is, against the mean of the training digits and against ridge regression.
3. Hamiltonian: a mean-field guide and the same with leapfrog steps, in nats, at equal epochs; and the first,
   trained alone, with the steps put on it afterwards, which tells what they do to one and the same guide.
4. Riemannian: as 3, with the steps in a space whose metric is learned, from the codes of the guide that was
   trained alone; all is then trained on, and the guide alone for as long.

    python benchmarks/spaces.py --out benchmarks/results/spaces.json
"""

from __future__ import annotations

import argparse
import functools
import json
import platform
import statistics
import time
from pathlib import Path
from typing import Any

import matplotlib.pyplot as plt
import torch
from sklearn.cluster import KMeans
from sklearn.linear_model import RidgeCV
from torch import Tensor

import ppl_vae as pv
from ppl_vae import data, estimators, evaluate, guides, likelihoods, models, nets, plots, priors
from ppl_vae.evaluate import Clustering
from ppl_vae.runs import atomic_write

SHAPE, HALF = (1, 8, 8), (1, 8, 4)
SEEDS = (0, 1, 2)


def scores(found: Clustering) -> dict[str, float]:
    return {
        "adjusted_rand_index": found.adjusted_rand_index,
        "normalised_mutual_information": found.normalised_mutual_information,
        "accuracy": found.accuracy,
    }


def fit(pair: pv.Pair, estimator: Any, digits: Any, epochs: int, seed: int) -> pv.Pair:
    pv.fit(
        pair, estimator, digits, epochs=epochs, seed=seed, batch_size=100, learning_rate=2e-3,
        schedule="cosine", progress=False, check=False, device="cpu",
    )  # fmt: skip
    return pair.eval()


def clusters(seed: int, epochs: int, out: Path, latent_dim: int = 10) -> dict[str, Any]:
    torch.manual_seed(seed)
    digits = data.load("digits", labels=False)
    parts = {name: split.tensors()[0] for name, split in digits.parts().items() if split is not None}
    labels = digits.test.y
    assert labels is not None

    def by_k_means(train: Tensor, test: Tensor) -> dict[str, float]:
        fitted = KMeans(10, n_init=10, random_state=seed).fit(train.flatten(1).numpy())
        return scores(Clustering(torch.as_tensor(fitted.predict(test.flatten(1).numpy())), labels))

    found = {"k_means_pixels": by_k_means(parts["train"], parts["test"])}
    likelihood = likelihoods.Gaussian("learned")
    decoder, encoder = (
        nets.MLPDecoder(latent_dim, SHAPE, (128, 128)),
        nets.MLPEncoder(SHAPE, latent_dim, (128, 128)),
    )
    guide = guides.MeanField(encoder)
    plain = fit(
        pv.Pair(models.VAE(likelihood, decoder, latent_dim), guide), estimators.ELBO(), digits, epochs, seed
    )
    codes = {name: pv.encode(plain, x, seed=seed) for name, x in parts.items()}
    found["k_means_codes"] = by_k_means(codes["train"].means["z"], codes["test"].means["z"])
    prior = priors.MixtureOfGaussians(latent_dim, 10)
    prior.initialise(codes["train"].latents["z"], seed=seed)
    pair = pv.Pair(models.MixtureVAE(likelihood, decoder, prior), guide)
    test = data.Split.from_tensor(parts["test"], labels)
    found["vade_at_start"] = scores(evaluate.clustering(pair, test))
    fit(pair, estimators.ELBO(), digits, epochs, seed)
    scored = evaluate.clustering(pair, test)
    found["vade"] = scores(scored)
    members = [parts["test"][scored.clusters == each][:20] for each in range(10)]
    rows = [torch.cat([each, torch.zeros(20 - len(each), *SHAPE)]) for each in members]
    figure = plots.images(torch.cat(rows), columns=20).figure
    figure.savefig(out.with_name(f"{out.stem}_clusters.png"), bbox_inches="tight", dpi=60)  # type: ignore[union-attr]
    nats = {"vae": plain, "vade": pair}
    found["elbo"] = {name: evaluate.bounds(each, parts["test"], 5).elbo for name, each in nats.items()}
    return found


def views(seed: int, epochs: int, out: Path, latent_dim: int = 16) -> dict[str, Any]:
    torch.manual_seed(seed)
    digits = data.load("digits")
    train, test = digits.train.tensors()[0], digits.test.tensors()[0]
    halves = {
        name: (x[..., :4].contiguous(), x[..., 4:].contiguous())
        for name, x in (("train", train), ("test", test))
    }
    left, right = halves["train"]
    gap = torch.full_like(left, torch.nan)
    # each datum whole, and with either half taken away: the objective of the MVAE
    rows = data.Split.from_tensors(
        left=torch.cat([left, left, gap]), right=torch.cat([right, gap, right]), missing=True
    )
    truth = halves["test"][1]

    def error(guess: Tensor) -> float:
        return float((guess - truth).square().mean())

    flat = [each.flatten(1).numpy() for each in (left, right, halves["test"][0])]
    ridge = torch.as_tensor(RidgeCV().fit(flat[0], flat[1]).predict(flat[2])).view(-1, *HALF)
    found: dict[str, Any] = {
        "mean": {"error": error(right.mean(0))},
        "ridge": {"error": error(ridge.float())},
    }
    guessed = {"data": truth, "ridge": ridge.float()}
    for name in ("ProductOfExperts", "MixtureOfExperts", "MixtureOfProducts"):
        torch.manual_seed(seed)
        decoders = [nets.MLPDecoder(latent_dim, HALF, (128,)) for _ in range(2)]
        encoders = [nets.MLPEncoder(HALF, latent_dim, (128,)) for _ in range(2)]
        views = [likelihoods.Gaussian("learned") for _ in range(2)]
        model = models.MultimodalVAE(("left", "right"), views, decoders, latent_dim)
        pair = fit(pv.Pair(model, getattr(guides, name)(encoders)), estimators.ELBO(), rows, epochs, seed)
        missing = torch.full_like(truth, torch.nan)
        filled = pv.impute(pair, halves["test"][0], missing, method="guide", num_samples=100, progress=False)
        guessed[name] = filled.means["right"]
        both = evaluate.bounds(pair, halves["test"], 20)
        found[name] = {"error": error(filled.means["right"]), "elbo_of_both": both.elbo}
    figure, axes = plt.subplots(len(guessed), 1, figsize=(9, 4.5))
    for ax, (name, half) in zip(axes, guessed.items(), strict=True):
        plots.images(torch.cat([halves["test"][0], half], -1)[:20].clamp(0, 1), columns=20, ax=ax)
        ax.set_title(name, fontsize=8)
    figure.savefig(out.with_name(f"{out.stem}_views.png"), bbox_inches="tight", dpi=80)
    return found


def hamiltonian(seed: int, epochs: int, out: Path, latent_dim: int = 8) -> dict[str, Any]:
    digits = data.load("digits", binarise="fixed")
    found = {}

    def make(steps: int) -> pv.Pair:
        torch.manual_seed(seed)
        likelihood, decoder = likelihoods.Bernoulli(), nets.MLPDecoder(latent_dim, SHAPE, (128,))
        nets.centre_output(decoder, likelihood, digits.train.mean()[None])
        model = models.VAE(likelihood, decoder, latent_dim)
        guide = guides.MeanField(nets.MLPEncoder(SHAPE, latent_dim, (128,)))
        return pv.Pair(model, guides.Hamiltonian(guide, model, steps) if steps else guide)

    def judge(pair: pv.Pair, started: float) -> dict[str, float]:
        seconds = time.process_time() - started
        bound = evaluate.bounds(pair, digits.test, 20).elbo
        best = evaluate.log_likelihood(pair, digits.test, 500, progress=False, capture=False).value
        return {"elbo": bound, "log_likelihood": best, "seconds": round(seconds, 1)}

    pairs = {}
    for name, steps in (("mean_field", 0), ("hamiltonian", 3)):
        started = time.process_time()
        pairs[name] = fit(make(steps), estimators.ELBO(), digits, epochs, seed)
        found[name] = judge(pairs[name], started)
    plain = pairs["mean_field"]
    guide = guides.Hamiltonian(plain.guide, plain.model, 3)
    for parameter in (*plain.model.parameters(), *plain.guide.parameters()):
        parameter.requires_grad_(False)
    started = time.process_time()
    put_on = fit(pv.Pair(plain.model, guide), estimators.ELBO(), digits, max(1, epochs // 5), seed)
    found["steps_put_on_mean_field"] = judge(put_on, started)
    return found


def riemannian(seed: int, epochs: int, out: Path, latent_dim: int = 8) -> dict[str, Any]:
    digits = data.load("digits", binarise="fixed")
    found = {}

    def make() -> pv.Pair:
        torch.manual_seed(seed)
        likelihood, decoder = likelihoods.Bernoulli(), nets.MLPDecoder(latent_dim, SHAPE, (128,))
        nets.centre_output(decoder, likelihood, digits.train.mean()[None])
        guide = guides.MeanField(nets.MLPEncoder(SHAPE, latent_dim, (128,)))
        return fit(
            pv.Pair(models.VAE(likelihood, decoder, latent_dim), guide),
            estimators.ELBO(),
            digits,
            epochs,
            seed,
        )

    for name in ("mean_field", "riemannian"):
        pair, started = make(), time.process_time()
        if name == "riemannian":
            metric = nets.RiemannianMetric(latent_dim, num_centres=20, regularisation=0.1)
            metric.initialise(pv.encode(pair, *digits.train.tensors(), seed=seed).latents["z"])
            pair = pv.Pair(pair.model, guides.RiemannianHamiltonian(pair.guide, pair.model, metric))
        fit(pair, estimators.ELBO(), digits, max(1, epochs // 2), seed)
        seconds = time.process_time() - started
        bound = evaluate.bounds(pair, digits.test, 20).elbo
        best = evaluate.log_likelihood(pair, digits.test, 100, progress=False, capture=False).value
        found[name] = {"elbo": bound, "log_likelihood": best, "seconds": round(seconds, 1)}
    return found


PARTS = {"clusters": clusters, "views": views, "hamiltonian": hamiltonian, "riemannian": riemannian}
EPOCHS = {"clusters": 100, "views": 200, "hamiltonian": 30, "riemannian": 20}


def summary(runs: list[Any]) -> Any:
    """The mean over the seeds, and the standard error of it."""
    if isinstance(runs[0], dict):
        return {name: summary([run[name] for run in runs]) for name in runs[0]}
    error = statistics.stdev(runs) / len(runs) ** 0.5 if len(runs) > 1 else None
    return {"mean": round(statistics.mean(runs), 4), "standard_error": error and round(error, 4)}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("parts", nargs="*", default=list(PARTS), help="what else is in --out stays")
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--epochs-factor", type=float, default=1.0)
    parser.add_argument("--seeds", type=int, default=1, choices=range(1, len(SEEDS) + 1))
    options = parser.parse_args()
    torch.set_num_threads(1)
    result: dict[str, Any] = json.loads(options.out.read_text()) if options.out.exists() else {}
    result["versions"] = {"torch": torch.__version__, "python": platform.python_version()}
    for name in options.parts:
        run = PARTS[name]
        epochs = max(1, round(EPOCHS[name] * options.epochs_factor))
        started = time.process_time()
        found = summary([run(seed, epochs, options.out) for seed in SEEDS[: options.seeds]])
        seconds = round(time.process_time() - started)
        result[name] = {"epochs": epochs, "seeds": options.seeds, "processor_seconds": seconds, **found}
        print(name, json.dumps(result[name], indent=1), flush=True)
        text = json.dumps(result, indent=2) + "\n"
        atomic_write(options.out, functools.partial(Path.write_text, data=text))


if __name__ == "__main__":
    main()
