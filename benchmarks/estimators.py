"""Estimators on static MNIST: the one-layer network of the IWAE paper, the same small budget for each.

ELBO, STL, IWAE(5), DReG(5), IWAE(50), DReG(50) train the same pair from the same weights on the same data
in the same order, and are judged by the same estimate of -log p(x) on the test set. Everything is kept
in a folder: the same command goes on where it was interrupted and repeats no finished run.

    PPL_VAE_DATA=... python benchmarks/estimators.py --epochs 30 --seeds 0 1 \\
        --out benchmarks/results/estimators.json
"""

from __future__ import annotations

import argparse
import json
import platform
from pathlib import Path

import torch

import ppl_vae as pv
from ppl_vae import comparison, data, guides, likelihoods, models, nets
from ppl_vae.estimators import ELBO, IWAE, STL, DReG
from ppl_vae.runs import atomic_write

SHAPE, LATENT, HIDDEN = (1, 28, 28), 50, (200, 200)
ESTIMATORS = {
    "ELBO": ELBO(),
    "STL": STL(),
    "IWAE(5)": IWAE(5),
    "DReG(5)": DReG(num_particles=5),
    "IWAE(50)": IWAE(50),
    "DReG(50)": DReG(num_particles=50),
}
# Burda et al. 2016, arXiv:1509.00519, Table 3, one stochastic layer, after 3,280 epochs
PUBLISHED = {"ELBO": 88.71, "IWAE(5)": 87.63, "IWAE(50)": 87.10}


class MakePair:
    """The paper's network: tanh, 784-200-200-50, Glorot initialisation, output bias from the data's mean."""

    def __init__(self, mean: torch.Tensor) -> None:
        self.mean = mean

    def __call__(self, seed: int) -> pv.Pair:
        likelihood = likelihoods.Bernoulli()
        decoder = nets.MLPDecoder(LATENT, SHAPE, HIDDEN)
        nets.centre_output(decoder, likelihood, self.mean[None])
        return pv.Pair(
            models.VAE(likelihood, decoder, LATENT), guides.MeanField(nets.MLPEncoder(SHAPE, LATENT, HIDDEN))
        )


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--epochs", type=int, default=30)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0])
    parser.add_argument("--batch", type=int, default=100)
    parser.add_argument("--learning-rate", type=float, default=1e-3)
    parser.add_argument("--test", type=int, default=2000, help="test data that the runs are judged on")
    parser.add_argument("--num-particles", type=int, default=1000, help="K of the test log-likelihood")
    parser.add_argument("--n-jobs", type=int, default=1)
    parser.add_argument("--run-dir", type=Path, default=Path("runs/benchmark-estimators"))
    parser.add_argument("--out", type=Path, default=Path("benchmarks/results/estimators.json"))
    options = parser.parse_args()
    mnist = data.load("static_mnist")
    result = comparison.after_training(
        MakePair(mnist.train.mean()),
        ESTIMATORS,
        mnist,
        epochs=options.epochs,
        seeds=options.seeds,
        judge_on=mnist.test.take(options.test),
        judge_particles=options.num_particles,
        run_dir=options.run_dir,
        n_jobs=options.n_jobs,
        batch_size=options.batch,
        learning_rate=options.learning_rate,
        schedule="cosine",
        validate_every=5,
        device="cpu",
        precision="float32",
        capture=True,
    )
    rows = json.loads(result.table.to_json(orient="records"))
    for row in rows:
        row["published after 3,280 epochs"] = PUBLISHED.get(row["estimator"])
    report = {
        "settings": {
            "data": "MNIST, fixed binarisation",
            "network": "784-200-200-50, tanh, Bernoulli, output bias from the data's mean",
            "training images": len(mnist.train),
            "epochs": options.epochs,
            "seeds": options.seeds,
            "batch": options.batch,
            "step": "captured",
            "optimizer": f"Adam, {options.learning_rate:g}, cosine to zero",
            "test images": min(options.test, len(mnist.test)),
            "num_particles of the test": options.num_particles,
        },
        "machine": {
            "processor": platform.processor() or platform.machine(),
            "threads": torch.get_num_threads(),
            "torch": torch.__version__,
            "python": platform.python_version(),
        },
        "difference": "nats by which log p(x) is higher than under the first estimator, paired by image "
        "and seed",
        "table": rows,
    }
    text = json.dumps(report, indent=2) + "\n"
    atomic_write(options.out, lambda path: path.write_text(text))
    for name, ax in (("scores", result.plot_scores()), ("curves", result.plot_curves("seconds"))):
        path = options.out.with_name(f"{options.out.stem}_{name}.png")
        atomic_write(path, lambda temporary, ax=ax: ax.figure.savefig(temporary, dpi=150))
    print(result)


if __name__ == "__main__":
    main()
