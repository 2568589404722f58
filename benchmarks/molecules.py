"""Drug-like molecules of ZINC under a text VAE with a property head: what is drawn, and what an ascent finds.

Molecules are written in SELFIES (Krenn et al., arXiv:1905.13741), in which every string of tokens is a
molecule. The model writes one from z and says the drug-likeness (QED) beside it; the ascent climbs what
the head says, on the shell where molecules have their codes, and RDKit judges what is decoded there.

    PPL_VAE_DATA=... python benchmarks/molecules.py --epochs 8 --out benchmarks/results/molecules.json

Wants the extra `chem`.
"""

from __future__ import annotations

import argparse
import json
import platform
import time
from pathlib import Path
from typing import Any

import pyro
import pyro.distributions as dist
import selfies
import torch
from rdkit import Chem, RDLogger
from rdkit.Chem import QED, Draw
from torch import Tensor, nn

import ppl_vae as pv
from ppl_vae import data, estimators, evaluate, guides, kl, likelihoods, nets
from ppl_vae.runs import atomic_write

LONGEST = 48  # tokens: four molecules in five


class Molecules(nn.Module):
    """z ~ N(0, I); x | z a string of tokens; y | z ~ N(head(z), 0.05^2), the drug-likeness."""

    def __init__(self, likelihood: nn.Module, decoder: nn.Module, latent_dim: int) -> None:
        super().__init__()
        self.likelihood, self.decoder, self.latent_dim = likelihood, decoder, latent_dim
        self.head = nets.MLP(latent_dim, (64,), 1)

    def forward(self, x: Tensor, y: Tensor) -> None:
        with pyro.plate("data", len(x), dim=-1):
            z = pyro.sample("z", dist.Normal(y.new_zeros(self.latent_dim), 1.0).to_event(1))
            pyro.sample("y", dist.Normal(self.head(z).squeeze(-1), 0.05), obs=y)
            pyro.sample("x", self.likelihood(self.decoder(z)), obs=x)


class FromStrings(nn.Module):
    """q(z | x): what is known of a new molecule is its string."""

    def __init__(self, encoder: nn.Module) -> None:
        super().__init__()
        self.encoder, self.guide = encoder, guides.MeanField(encoder)

    def forward(self, x: Tensor, y: Tensor) -> None:
        self.guide(x)


def read(part: str) -> list[list[str]]:
    """The molecules of a file as tokens, those that are not too long."""
    path = data.data_root() / "molecules" / part
    if not path.is_file():
        raise SystemExit(
            f"{path} is not there: a text of SMILES, one a line; PPL_VAE_DATA names the folder above"
        )
    strings = (selfies.encoder(line.strip(), strict=False) for line in path.read_text().splitlines())
    tokens = (list(selfies.split_selfies(string)) for string in strings)
    return [each for each in tokens if 0 < len(each) <= LONGEST]


def smiles(strings: list[str]) -> list[str | None]:
    """Each molecule in RDKit's canonical SMILES, None where it is none."""
    found: list[str | None] = []
    for string in strings:
        molecule = Chem.MolFromSmiles(selfies.decoder(string))
        found.append(None if molecule is None or not molecule.GetNumAtoms() else Chem.MolToSmiles(molecule))
    return found


def quality(known: list[str | None]) -> Tensor:
    """Drug-likeness, in [0, 1]; nan of what is no molecule."""
    return torch.tensor([QED.qed(Chem.MolFromSmiles(one)) if one else torch.nan for one in known])


def main() -> None:
    """Train, draw, ascend, judge."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--epochs", type=int, default=8)
    parser.add_argument("--molecules", type=int, default=20_000, help="to train on, at most")
    parser.add_argument("--samples", type=int, default=1000)
    parser.add_argument("--latent-dim", type=int, default=32)
    parser.add_argument("--out", type=Path, required=True)
    options = parser.parse_args()
    RDLogger.DisableLog("rdApp.*")
    train, test = read("zinc_24k_train.txt")[: options.molecules], read("zinc_5k_test.txt")[:2000]
    alphabet = data.Alphabet.of([*train, *test])
    width = LONGEST + 1
    parts = {}
    for name, tokens in (("train", train), ("test", test)):
        x = alphabet.encode(tokens, width).float()
        parts[name] = x, quality(smiles(["".join(each) for each in tokens]))
    seen = set(smiles(["".join(each) for each in train]))

    torch.manual_seed(0)
    likelihood = likelihoods.Strings(len(alphabet), width, 64, 192, 32, word_dropout=0.2)
    decoder = nets.MLPDecoder(options.latent_dim, likelihood.raw_shape((width,)), (64,))
    encoder = nets.StringEncoder(len(alphabet), width, options.latent_dim, 96, 32)
    pair = pv.Pair(Molecules(likelihood, decoder, options.latent_dim), FromStrings(encoder))
    x, y = parts["train"]
    started = time.process_time()
    run = pv.fit(
        pair, estimators.MeanFieldELBO(), {"x": x, "y": y}, epochs=options.epochs, learning_rate=3e-3,
        schedule="cosine", clip_norm=5.0, kl=kl.FreeBits(15.0, per="site"), capture=False, check=False,
        device="cpu",
    )  # fmt: skip
    seconds = time.process_time() - started

    x, y = parts["test"]
    bounds = evaluate.bounds(pair, {"x": x[:1000], "y": y[:1000]}, progress=False)
    told = pv.decode(pair, pv.encode(pair, x, y, seed=0).means, like=(x, y), seed=0).means["y"]
    drawn = pv.sample(pair, options.samples, like=(x[:1], y[:1]), seed=0).values["x"]
    made = smiles(alphabet.decode(drawn))
    valid = [one for one in made if one]
    again = smiles(alphabet.decode(pv.decode(pair, pv.encode(pair, x, y).means, like=(x, y)).means["x"]))
    same = sum(one == other for one, other in zip(again, smiles(alphabet.decode(x))))
    start = (x[:100], y[:100])
    best = pv.optimise(pair, lambda y: y, start, like=(x, y), given=("x",), steps=200, prior_weight=0.01)
    found = smiles(alphabet.decode(pv.decode(pair, best.draws.latents, like=start).means["x"]))
    reached, before = quality(found), quality(smiles(alphabet.decode(x[:100])))
    order = reached.nan_to_num(nan=-1).argsort(descending=True)
    top = list(dict.fromkeys(found[i] for i in order.tolist() if found[i]))[:10]
    picture = Draw.MolsToGridImage(
        [Chem.MolFromSmiles(one) for one in top], molsPerRow=5, subImgSize=(220, 180),
        legends=[f"QED {value:.3f}" for value in quality(list(top)).tolist()],
    )  # fmt: skip
    atomic_write(options.out.with_suffix(".png"), lambda path: picture.save(path, format="PNG"))
    result: dict[str, Any] = {
        "settings": {
            "molecules": len(train),
            "tokens": len(alphabet),
            "longest": LONGEST,
            "epochs": options.epochs,
            "pair": f"GRU 192, word dropout 0.2, d = {options.latent_dim}, free bits 15",
            "training": "batch 100, Adam 3e-3, cosine to zero",
        },
        "machine": {"processor": platform.processor() or platform.machine(), "torch": torch.__version__},
        "seconds of training (processor time)": seconds,
        "curve: train bound by epoch": [round(each, 2) for each in run.history["train_bound"]],
        "test, nats a molecule": {"-ELBO": -bounds.elbo, "KL": bounds.kl["z"]},
        "samples of the prior": {
            "drawn": len(made),
            "valid": len(valid) / len(made),
            "unique among valid": len(set(valid)) / len(valid),
            "novel among unique": len(set(valid) - seen) / len(set(valid)),
            "mean QED": float(quality(valid).mean()),
            "mean QED of the data": float(y.mean()),
        },
        "test molecules written again exactly": same / len(x),
        "property head, test": {
            "R2": float(1 - (told - y).square().mean() / y.var()),
            "mean error": float((told - y).abs().mean()),
        },
        "ascent of QED from 100 test molecules": {
            "before": float(before.mean()),
            "told by the head at the end": float(best.score.mean()),
            "after, by RDKit": float(reached[~reached.isnan()].mean()),
            "best": float(reached.nan_to_num(-1).max()),
            "valid": float((~reached.isnan()).double().mean()),
            "best ten": top,
        },
    }  # fmt: skip
    text = json.dumps(result, indent=2)
    print(text)
    atomic_write(options.out, lambda path: path.write_text(text + "\n"))


if __name__ == "__main__":
    main()
