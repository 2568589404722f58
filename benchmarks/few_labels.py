"""MNIST with 100 labels, 10 a class: M2 on the pixels, and M1+M2, the same on the latents of a VAE.

The VAE (M1) learns from the 50,000 training images without a label, once. For each draw of the labels
two semi-supervised VAEs learn from these images, all their labels hidden but 100: one from the pixels,
one from the means of M1's latents. Judged by the share of right labels, argmax q(y | x), on the 10,000
test images, which nothing else looks at: the settings below were chosen on another draw of the labels
and the validation images.

    PPL_VAE_DATA=... python benchmarks/few_labels.py --out benchmarks/results/few_labels.json

Each training's result is kept under --work as soon as it is there, and what is there is not run again;
a training that was stopped goes on from its last checkpoint.
"""

from __future__ import annotations

import argparse
import json
import math
import platform
import statistics
import time
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import nn
from torch.nn import functional

import ppl_vae as pv
from ppl_vae import data, estimators, guides, likelihoods, models, nets
from ppl_vae.data import few_labels
from ppl_vae.data.rows import ResidentRows
from ppl_vae.estimators.enumerated import EnumeratedELBO
from ppl_vae.nets.shapes import Flatten, OverImages
from ppl_vae.queries import class_probabilities, latent_features
from ppl_vae.runs import atomic_write

SHAPE, CLASSES = (1, 28, 28), 10
PUBLISHED = {
    "m2": {"accuracy": 0.8803, "source": "arXiv:1406.5298, table 1: error 11.97 %"},
    "m1+m2": {"accuracy": 0.9667, "source": "arXiv:1406.5298, table 1: error 3.33 %"},
    "pyro": {"accuracy": 0.9319, "source": "Pyro's semi-supervised example, 100 labels"},
}


@dataclass(frozen=True)
class M1:
    """The settings of the VAE whose latents are the features."""

    latent_dim: int = 50
    hidden: tuple[int, ...] = (600, 600)
    epochs: int = 60
    batch_size: int = 200
    learning_rate: float = 1e-3


@dataclass(frozen=True)
class M2:
    """The settings of a semi-supervised VAE: one hidden layer in every net.

    `alpha` is the weight of the classification term, `repeat` the further copies of the labelled data,
    `pretrain` the steps of the classifier alone on the labelled data, with `noise` on features or binary
    pixels; then for `held` epochs it is held while all else learns from what it says: else the classes settle
    on what is easiest to tell apart, as thickness. `dropout` is the classifier's.
    """

    latent_dim: int
    hidden: int
    classifier: int
    alpha: float
    repeat: int
    epochs: int
    pretrain: int
    held: int
    dropout: float
    noise: float = 0.3
    batch_size: int = 200
    learning_rate: float = 1e-3
    matmul_precision: str = "float32"


SETTINGS = {
    "m1+m2": M2(
        latent_dim=10, hidden=500, classifier=400, alpha=5.0, repeat=50, epochs=24, pretrain=1500, held=8,
        dropout=0.5, noise=0.6, learning_rate=3e-3,
    ),
    "m2": M2(
        latent_dim=40, hidden=250, classifier=128, alpha=5.0, repeat=50, epochs=14, pretrain=2000, held=3,
        dropout=0.5, learning_rate=3e-3, matmul_precision="bf16",
    ),
}  # fmt: skip


def train_m1(settings: M1, images: data.DataSet, work: Path, progress: bool) -> tuple[pv.Pair, float]:
    """The VAE on all training images, and the seconds that its epochs took."""
    kept = work / "result.json"
    if kept.exists():
        stored = json.loads(kept.read_text())
        if stored["settings"] != json.loads(json.dumps(asdict(settings))):
            raise SystemExit(f"{kept} is of other settings: move it away, or give another --work")
        return pv.load(work), stored["seconds"]
    torch.manual_seed(0)
    likelihood = likelihoods.Bernoulli()
    decoder = nets.MLPDecoder(settings.latent_dim, SHAPE, settings.hidden, "silu")
    nets.centre_output(decoder, likelihood, images.train.mean()[None])
    guide = guides.MeanField(nets.MLPEncoder(SHAPE, settings.latent_dim, settings.hidden, "silu"))
    run = pv.fit(
        pv.Pair(models.VAE(likelihood, decoder, settings.latent_dim), guide),
        estimators.MeanFieldELBO(),
        images,
        epochs=settings.epochs,
        batch_size=settings.batch_size,
        learning_rate=settings.learning_rate,
        schedule="cosine",
        capture=True,
        validate_every=10,
        run_dir=work,
        resume=True,
        progress=progress,
    )
    seconds = float(run.history["seconds"].sum())
    write_json(kept, {"settings": asdict(settings), "seconds": seconds})
    return run.pair, seconds


def make_m2(settings: M2, shape: tuple[int, ...], mean: torch.Tensor) -> pv.Pair:
    """M2 with one hidden layer in every net, on images or on vectors; the classifier of images has three."""
    width, hidden = math.prod(shape), (settings.hidden,)
    images = len(shape) > 1
    likelihood: Any = likelihoods.Bernoulli() if images else likelihoods.Gaussian("learned", event_dim=1)
    decoder = nets.MLPDecoder(settings.latent_dim + CLASSES, likelihood.raw_shape(shape), hidden, "silu")
    nets.centre_output(decoder, likelihood, mean[None])
    if images:
        flatten = Flatten(shape)
        classifier: nn.Module = convolutional_classifier(settings)
        # the label enters after the first layer, which so runs once for a datum and not once for a class
        features: nn.Module = nn.Sequential(flatten, nets.MLP(width, hidden, activation="silu"))
        width = settings.hidden
    else:
        classifier = nets.MLP(width, (settings.classifier,), CLASSES, "silu", dropout=settings.dropout)
        features = nn.Identity()
    encoder = nets.MLPEncoder((width + CLASSES,), settings.latent_dim, hidden, "silu")
    guide = guides.SemiSupervised(
        classifier, features, encoder, CLASSES, alpha=settings.alpha, enumerate=False
    )
    return pv.Pair(models.SemiSupervisedVAE(likelihood, decoder, settings.latent_dim, CLASSES), guide)


def convolutional_classifier(settings: M2) -> nn.Sequential:
    """Two convolutions that halve the image, and a hidden layer."""
    layers = [nn.Conv2d(1, 16, 5, 2, 2), nn.SiLU(), nn.Dropout(settings.dropout / 2)]
    layers += [nn.Conv2d(16, 32, 5, 2, 2), nn.SiLU()]
    flatten = Flatten((32, 7, 7))
    dense = [nn.Linear(flatten.num_features, settings.classifier), nn.SiLU(), nn.Dropout(settings.dropout)]
    return nn.Sequential(
        OverImages(nn.Sequential(*layers), SHAPE),
        flatten,
        nn.Dropout(settings.dropout),
        *dense,
        nn.Linear(settings.classifier, CLASSES),
    )


def active_means(pair: pv.Pair, images: data.DataSet) -> data.DataSet:
    """The means of M1's latents, centred, without the dimensions that do not vary with x."""
    means = latent_features(pair, images)
    assert isinstance(means.train.rows, ResidentRows)
    tensor = means.train.rows.tensor
    centre, active = tensor.mean(0), tensor.var(0) > 0.01

    def part(split: data.Split) -> data.Split:
        assert isinstance(split.rows, ResidentRows)
        return replace(split, rows=ResidentRows((split.rows.tensor - centre)[:, active].contiguous()))

    return replace(means, **{name: part(split) for name, split in means.parts().items()})


def accuracy(pair: pv.Pair, split: data.Split) -> float:
    """The share of right labels, the labels of the split not shown to the guide."""
    right = 0.0
    for x, y in replace(split, with_labels=True, dynamic=False).batches(1000):
        right += float((class_probabilities(pair, x).argmax(-1) == y).sum())
    return right / len(split)


def teach(pair: pv.Pair, train: data.Split, settings: M2) -> None:
    """The classifier alone, on the labelled data and nothing else, with noise."""
    classifier = pair.guide.classifier
    assert train.y is not None
    ((x, y),) = replace(train, dynamic=False)[(train.y >= 0).nonzero()[:, 0]].batches(len(train))
    optimizer = torch.optim.Adam(classifier.parameters(), lr=1e-3)
    classifier.train()
    for _ in range(settings.pretrain):
        chosen = torch.randint(len(x), (100,))
        seen = x[chosen]
        seen = torch.bernoulli(seen) if x.dim() > 2 else seen + settings.noise * torch.randn_like(seen)
        optimizer.zero_grad()
        functional.cross_entropy(classifier(seen), y[chosen].long()).backward()
        optimizer.step()


def train_m2(
    settings: M2,
    parts: data.DataSet,
    judge: data.Split,
    seed: int,
    work: Path,
    progress: bool,
) -> dict[str, Any]:
    """One draw of the labels: the training, its accuracy and its time."""
    torch.manual_seed(seed)
    train = few_labels(parts.train, 10, seed=seed, repeat=settings.repeat)
    started = time.perf_counter()
    pair = make_m2(settings, train.shape, parts.train.mean())
    teach(pair, few_labels(parts.train, 10, seed=seed), settings)
    shared: dict[str, Any] = {
        "batch_size": settings.batch_size,
        "learning_rate": settings.learning_rate,
        "seed": seed,
        "capture": True,
        "matmul_precision": settings.matmul_precision,
        "checkpoint_every": 5,
        "resume": True,
        "progress": progress,
    }
    estimator, classifier = EnumeratedELBO(closed_form=True), pair.guide.classifier
    classifier.requires_grad_(False)
    run = pv.fit(pair, estimator, train, epochs=settings.held, run_dir=work / "held", **shared)
    pair, classifier = run.pair, run.pair.guide.classifier
    classifier.requires_grad_(True)
    run = pv.fit(
        pair, estimator, train, epochs=settings.epochs, schedule="cosine", run_dir=work / "all", **shared
    )
    last = run.history.iloc[-1]
    return {
        "seed": seed,
        "accuracy": accuracy(run.pair, judge),
        "seconds": float(run.history["seconds"].sum()),
        "seconds_this_call": time.perf_counter() - started,
        "train_bound": float(last["train_bound"]),
        "kl_y": float(last["train_kl_y"]),
        "kl_z": float(last["train_kl_z"]),
    }


def summarised(results: list[dict[str, Any]], settings: M2) -> dict[str, Any]:
    """Mean and standard error over the draws of the labels."""
    values = [each["accuracy"] for each in results]
    spread = statistics.stdev(values) / math.sqrt(len(values)) if len(values) > 1 else None
    return {
        "mean_accuracy": statistics.fmean(values),
        "standard_error": spread,
        "settings": asdict(settings),
        "seconds": sum(each["seconds"] for each in results),
        "draws": results,
    }


def write_json(path: Path, content: dict[str, Any]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    text = json.dumps(content, indent=2) + "\n"
    atomic_write(path, lambda temporary: temporary.write_text(text))


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--out", type=Path, default=Path("benchmarks/results/few_labels.json"))
    parser.add_argument("--work", type=Path, default=Path("runs/few_labels"), help="trainings, kept")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2, 3, 4], help="draws of the labels")
    parser.add_argument("--methods", nargs="+", choices=sorted(SETTINGS), default=["m1+m2", "m2"])
    parser.add_argument("--tune", action="store_true", help="judge on the validation images, not the test")
    parser.add_argument("--progress", action="store_true")
    for method, chosen in SETTINGS.items():
        for name, value in asdict(chosen).items():
            parser.add_argument(f"--{method}.{name}", type=type(value), default=value)
    options = vars(parser.parse_args())
    work: Path = options["work"]

    images = data.load("mnist", binarise="dynamic")
    m1 = M1()
    pair, m1_seconds = train_m1(m1, images, work / "m1", options["progress"])
    features = active_means(pair, replace_dynamic(images, False))
    report: dict[str, Any] = {
        "published": PUBLISHED,
        "judged_on": "10,000 validation images" if options["tune"] else "10,000 test images",
        "machine": {"cpu": platform.processor() or platform.machine(), "threads": torch.get_num_threads()},
        "m1": {"settings": asdict(m1), "seconds": m1_seconds, "active_units": features.shape[0]},
        "methods": {},
    }
    for method in options["methods"]:
        given = {name: options[f"{method}.{name}"] for name in asdict(SETTINGS[method])}
        settings, results = M2(**given), []
        parts = features if method == "m1+m2" else images
        judge = parts.part("valid" if options["tune"] else "test")
        for seed in options["seeds"]:
            folder = work / f"{method}-{seed}"
            kept = folder / "result.json"
            if kept.exists():
                stored = json.loads(kept.read_text())
                if stored["settings"] != asdict(settings) or stored["judged_on"] != report["judged_on"]:
                    raise SystemExit(f"{kept} is of other settings: move it away, or give another --work")
                result = stored["result"]
            else:
                result = train_m2(settings, parts, judge, seed, folder, options["progress"])
                whole = {"result": result, "settings": asdict(settings), "judged_on": report["judged_on"]}
                write_json(kept, whole)
            results.append(result)
            report["methods"][method] = summarised(results, settings)
            write_json(options["out"], report)
            print(f"{method:6s} draw {seed}: {result['accuracy']:.4f}  {result['seconds']:.0f} s", flush=True)
        mean, error = (report["methods"][method][name] for name in ("mean_accuracy", "standard_error"))
        spread = "" if error is None else f" ± {error:.4f}"
        print(
            f"{method:6s} mean {mean:.4f}{spread}, published {PUBLISHED[method]['accuracy']:.4f}", flush=True
        )


def replace_dynamic(images: data.DataSet, dynamic: bool) -> data.DataSet:
    """The same images, as they are or binarised afresh at every batch."""
    return replace(images, **{name: replace(part, dynamic=dynamic) for name, part in images.parts().items()})


if __name__ == "__main__":
    main()
