"""Chorales under a deep Markov model in nats a step; names under text VAEs and n-grams in nats a name.

Published for the chorales (229 / 76 / 77, quarter notes): Krishnan et al. 6.93 nats a step
(arXiv:1609.09869), Pyro's example 6.87 after 5,000 epochs (20 hours on a GTX 1080), with flows in its
guide 6.82 and 6.80.

    python benchmarks/sequences.py chorales --epochs 3000 --learning-rate 1.5e-3 --latent-dim 64 \\
        --hidden 128 --features 160 --weight-decay 0.03 --out benchmarks/results/chorales.json
    python benchmarks/sequences.py chorales --epochs 300 --learning-rate 5e-4 --latent-dim 64 --hidden 128 \\
        --features 160 --weight-decay 0.03 --transforms 1 --weights RUN/weights.safetensors --run-dir FLOW \\
        --out flow.json  # a flow on the guide of the run before
    python benchmarks/sequences.py names --epochs 12 --out benchmarks/results/names.json
    python benchmarks/sequences.py names --attention --epochs 12 --learning-rate 1e-3 \\
        --out benchmarks/results/names.json  # adds its rows to those there
"""

from __future__ import annotations

import argparse
import functools
import json
import math
import platform
import time
from collections import Counter
from pathlib import Path
from typing import Any

import matplotlib.pyplot as plt
import torch
from safetensors.torch import load_file

import ppl_vae as pv
from ppl_vae import data, estimators, evaluate, guides, kl, likelihoods, models, nets
from ppl_vae.runs import atomic_write

PUBLISHED = {"Krishnan et al.": 6.93, "Pyro's example": 6.87, "with 1 flow": 6.82, "with 2 flows": 6.80}
LONGEST = 65  # of the pieces that are trained on


def chorales(options: argparse.Namespace) -> dict[str, Any]:
    """Train on the chorales, say the bound and the curve."""
    known = data.load("chorales")
    cut = {name: pieces(known.part(name)) for name in ("train", "valid", "test")}
    pair = chorales_pair(options, cut["train"])
    if options.weights is not None:  # of a pair without flows, which begin as the identity
        lacking = pair.load_state_dict(load_file(options.weights), strict=False)
        assert not lacking.unexpected_keys
        print("not among the weights:", lacking.missing_keys)
    started = time.process_time()
    run = pv.fit(
        pair, estimators.ELBO(), data.DataSet("chorales", **cut), epochs=options.epochs, batch_size=20,
        learning_rate=options.learning_rate, schedule="cosine", clip_norm=200.0, validate_every=20,
        patience=options.epochs, weight_decay=options.weight_decay,
        optimizer=functools.partial(torch.optim.Adam, betas=(0.96, 0.999)),
        kl=1.0 if options.weights else kl.LinearWarmup(start=0.2, epochs=max(1, options.epochs // 5)),
        device="cpu", capture="auto",
        run_dir=options.run_dir, resume=options.run_dir is not None, checkpoint_every=20,
    )  # fmt: skip
    seconds = time.process_time() - started
    curve = run.history.dropna(subset=["valid_bound"])
    each = len(cut["valid"]) / int(cut["valid"].tensors()[1].sum())
    result: dict[str, Any] = {
        "seconds of training (processor time)": seconds,
        "parameters": sum(each.numel() for each in pair.parameters()),
        "gradient steps": int(run.history["step"].iloc[-1]),
        "curve: valid, nats a step, by epoch": {
            int(epoch): round(-bound * each, 3) for epoch, bound in zip(curve["epoch"], curve["valid_elbo"])
        },
        "published": PUBLISHED,
    }
    count = known.test.tensors()[1]
    bound = evaluate.per_step(evaluate.bounds(pair, known.test, 10), count)
    tight = evaluate.per_step(evaluate.log_likelihood(pair, known.test, 50, progress=False), count)
    result["test, nats a step"] = {
        "-ELBO": -bound.value, "standard error": bound.standard_error, "-IWAE(50)": -tight.value,
    }  # fmt: skip
    picture(pair, known.test, curve["epoch"].tolist(), (-curve["valid_elbo"] * each).tolist(), options.out)
    return result


def picture(
    pair: pv.Pair, test: data.Split, epochs: list[float], nats: list[float], out: Path, steps: int = 96
) -> None:
    """The validation curve; a chorale, its reconstruction, and two that are drawn: time by pitch."""
    figure, axes = plt.subplots(5, 1, figsize=(9, 11), height_ratios=[2, 1, 1, 1, 1])
    axes[0].plot(epochs, nats)
    axes[0].set(xlabel="epoch", ylabel="-ELBO, validation, nats a step", ylim=(6, 10))
    axes[0].axhline(PUBLISHED["Pyro's example"], linestyle=":", label="Pyro's example, test")
    axes[0].legend()
    x, length = test.tensors()
    longest = int(length.argmax())
    chorale = x[longest : longest + 1, :steps], length[longest : longest + 1].clamp(max=steps)
    pair.remember((x[:2], length[:2]))  # it was trained on shorter pieces
    drawn = pv.sample(pair, 2, inputs={"length": steps}, seed=0).value
    rows = {
        "a test chorale": chorale[0][0],
        "its reconstruction": pv.reconstruct(pair, *chorale, seed=0).mean[0],
        "drawn": drawn[0],
        "drawn, another": drawn[1],
    }
    for ax, (name, roll) in zip(axes[1:], rows.items(), strict=True):
        ax.imshow(roll[:steps].T[20:80], origin="lower", aspect="auto", cmap="Greys", vmin=0, vmax=1)
        ax.set(title=name, xlabel="quarter notes", ylabel="key", yticks=[])
    figure.tight_layout()
    figure.savefig(out.with_suffix(".png"), dpi=80)


def chorales_pair(options: argparse.Namespace, train: data.Split) -> pv.Pair:
    """The deep Markov model with a guide that reads backwards."""
    x, length = train.tensors()
    torch.manual_seed(0)
    likelihood = likelihoods.Bernoulli(event_dim=1)
    decoder = nets.MLPDecoder(options.latent_dim, (88,), (options.hidden, options.hidden), "relu")
    nets.centre_output(decoder, likelihood, x[torch.arange(LONGEST) < length[:, None]])
    transition = nets.GatedTransition(options.latent_dim, 2 * options.hidden)
    model = models.DeepMarkov(likelihood, decoder, transition, options.latent_dim)
    features = nets.Recurrent(88, options.features, "backwards")
    combiner = nets.Combiner(options.latent_dim, features.num_features, options.features)
    return pv.Pair(model, guides.Smoothing(features, combiner, options.latent_dim, options.transforms))


def pieces(part: data.Split) -> data.Split:
    """The chorales, each in as many pieces of nearly equal length as make none longer than LONGEST.

    Whole ones would be padding for the most part. Some pieces begin in the middle of a chorale.
    """
    rows, lengths = [], []
    for x, length in zip(*part.tensors(), strict=True):
        for piece in x[: int(length)].tensor_split(-(-int(length) // LONGEST)):
            rows.append(torch.nn.functional.pad(piece, (0, 0, 0, LONGEST - len(piece))))
            lengths.append(len(piece))
    return data.Split.from_tensors(x=torch.stack(rows).to(torch.uint8), length=torch.tensor(lengths))


def names(options: argparse.Namespace) -> dict[str, Any]:
    """Text VAEs and n-grams in nats a name; what else `--out` holds stays."""
    known = data.load("names")
    before = json.loads(options.out.read_text()) if options.out.exists() else {}
    rows: dict[str, Any] = before.get("names", {})
    treatments: dict[str, tuple[float, kl.KL]] = {
        "plain": (0.0, 1.0),
        "word dropout 0.3, free bits 4": (0.3, kl.FreeBits(4.0, per="site")),
    }
    for name, (dropout, treatment) in treatments.items():
        pair = text_pair(known.shape[0], dropout, options)
        started = time.process_time()
        pv.fit(
            pair, estimators.MeanFieldELBO(), known, epochs=options.epochs, batch_size=100,
            learning_rate=options.learning_rate, schedule="cosine", kl=treatment, capture=False, device="cpu",
        )  # fmt: skip
        seconds = time.process_time() - started
        bound = evaluate.bounds(pair, known.test)
        tight = evaluate.log_likelihood(pair, known.test, 50, progress=False)
        rows[f"attention, {name}" if options.attention else name] = row = {
            "-ELBO": -bound.elbo, "KL": bound.kl["z"], "-IWAE(50)": -tight.value,
            "standard error": tight.standard_error, "seconds of training": seconds,
            "learning rate": options.learning_rate,
            "parameters": sum(each.numel() for each in pair.parameters()),
            "drawn": data.LETTERS.decode(pv.sample(pair, 8, seed=0).value),
            "between anna and christopher": between(pair, known, "anna", "christopher"),
        }  # fmt: skip
        print(name, row, flush=True)
    if "n-grams" not in rows:
        texts = {name: data.LETTERS.decode(part.tensors()[0]) for name, part in known.parts().items()}
        rows["n-grams"] = ngrams(texts)
    return {"settings": before.get("settings", settings(options)), "names": rows}


def between(pair: pv.Pair, known: data.DataSet, one: str, other: str) -> list[str]:
    """The likeliest names on the way from one to the other."""
    ends = data.LETTERS.encode([one, other], length=known.shape[0])
    path = pv.interpolate(pair, ends[:1], ends[1:], steps=7, seed=0)
    shown = path.value if path.mean is None else path.mean
    return data.LETTERS.decode(shown.flatten(0, 1))


def text_pair(length: int, word_dropout: float, options: argparse.Namespace) -> pv.Pair:
    """A text VAE of names: GRUs, or two blocks of attention on each side."""
    torch.manual_seed(0)
    if options.attention:
        likelihood: Any = likelihoods.TransformerStrings(
            26, length, 32, options.hidden, word_dropout=word_dropout
        )
        encoder: Any = nets.TransformerStringEncoder(26, length, options.latent_dim, options.hidden)
    else:
        likelihood = likelihoods.Strings(26, length, 32, options.hidden, 32, word_dropout)
        encoder = nets.StringEncoder(26, length, options.latent_dim, options.hidden // 2, 32)
    decoder = nets.MLPDecoder(options.latent_dim, likelihood.raw_shape((length,)), ())
    return pv.Pair(models.VAE(likelihood, decoder, options.latent_dim), guides.MeanField(encoder))


def ngrams(texts: dict[str, list[str]]) -> dict[str, Any]:
    r"""Nats a name of interpolated n-grams, p_n(c | h) = (count + k p_{n-1}(c | h')) / (total + k).

    Their n and k are chosen on the validation part.
    """
    found: dict[tuple[int, float], float] = {}
    counts = [count(texts["train"], order) for order in range(1, 7)]
    for order in range(1, 7):
        for strength in (1.0, 2.0, 4.0, 8.0, 16.0):
            found[order, strength] = nats(texts["valid"], counts[:order], strength)
    best = min(found, key=lambda each: found[each])
    return {
        "valid by n": {n: round(min(v for (m, _), v in found.items() if m == n), 3) for n in range(1, 7)},
        "n, k": best,
        "test": nats(texts["test"], counts[: best[0]], best[1]),
    }


def count(texts: list[str], order: int) -> dict[str, Counter[str]]:
    """How often each letter, and the end, follows each of the last order - 1 letters."""
    table: dict[str, Counter[str]] = {}
    for text in texts:
        padded = "^" * (order - 1) + text + "$"
        for place in range(order - 1, len(padded)):
            table.setdefault(padded[place - order + 1 : place], Counter())[padded[place]] += 1
    return table


def nats(texts: list[str], counts: list[dict[str, Counter[str]]], strength: float) -> float:
    """The mean over texts of -log p."""
    total, order = 0.0, len(counts)
    for text in texts:
        padded = "^" * (order - 1) + text + "$"
        for place in range(order - 1, len(padded)):
            p = 1 / 27
            for n, table in enumerate(counts, 1):
                seen = table.get(padded[place - n + 1 : place], Counter())
                p = (seen[padded[place]] + strength * p) / (seen.total() + strength)
            total -= math.log(p)
    return total / len(texts)


def settings(options: argparse.Namespace) -> dict[str, Any]:
    """What was asked for."""
    found = {
        name: value for name, value in vars(options).items() if name not in ("out", "run_dir", "weights")
    }
    return found | {"from the weights of a run without flows": options.weights is not None}


def main() -> None:
    """One of the two."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("what", choices=("chorales", "names"))
    parser.add_argument("--epochs", type=int, default=300)
    parser.add_argument("--learning-rate", type=float, default=3e-3)
    parser.add_argument("--latent-dim", type=int, default=32)
    parser.add_argument("--hidden", type=int, default=128)
    parser.add_argument("--features", type=int, default=128, help="width of what the guide reads with")
    parser.add_argument("--transforms", type=int, default=0, help="flows in the guide of the chorales")
    parser.add_argument("--weight-decay", type=float, default=0.0)
    parser.add_argument("--attention", action="store_true", help="in the place of recurrent nets, for names")
    parser.add_argument("--weights", type=Path, help="of a run without flows, to go on from")
    parser.add_argument("--run-dir", type=Path, help="to go on there after a stop")
    parser.add_argument("--out", type=Path, required=True)
    options = parser.parse_args()
    torch.set_num_threads(1)
    result = {
        "settings": settings(options),
        "machine": {"processor": platform.processor() or platform.machine(), "torch": torch.__version__},
        **(chorales if options.what == "chorales" else names)(options),
    }
    text = json.dumps(result, indent=2)
    print(text)
    atomic_write(options.out, lambda path: path.write_text(text + "\n"))


if __name__ == "__main__":
    main()
