"""Imputing six tables whose cells are missing for a reason, beside not-MIWAE's published errors.

The protocol of Ipsen, Mattei and Frellsen, not-MIWAE, arXiv:2006.12871: a standardised UCI table; in the
first half of its columns, whatever is above the column's mean is missing. What is imputed are the
training data's own gaps, and the error is the root mean square over the missing cells. A pair that knows
of the mask has a second observed site, s, which depends on the completed data, p(s_d = 1 | x_d) =
sigmoid(-softplus(w_d) (x_d - b_d)): the missing x are latents that the guide leaves to the model. MIWAE's
pair leaves them out. The nets are those of the authors' code (latents of D - 1 dimensions, tanh, an encoder
of the zero-filled rows, a deep decoder that predicts its scale, a linear one with one scale for all); their
script trains for 100,000 steps, their demonstration for 30,000. The published figures are those of a mask
whose slopes' sign is known. MICE is scikit-learn's. Concrete is an .xls, for which pandas wants
python-calamine (before 3.1: xlrd).

    PPL_VAE_DATA=... python benchmarks/missing_not_at_random.py --steps 30000 --out results.json

Tables that are in the file already, under the same settings, are kept.
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
import pandas as pd
import pyro
import pyro.distributions as dist
import torch
from sklearn.experimental import enable_iterative_imputer  # noqa: F401, makes the next import work
from sklearn.impute import IterativeImputer
from torch import Tensor, nn
from torch.nn import functional

import ppl_vae as pv
from ppl_vae import data, estimators, nets
from ppl_vae.runs import atomic_write

TABLES: dict[str, Callable[[Path], pd.DataFrame]] = {
    "banknote": lambda at: pd.read_csv(at / "data_banknote_authentication.txt", header=None).iloc[:, :-1],
    "concrete": lambda at: pd.read_excel(at / "Concrete_Data.xls").iloc[:, :-1],
    "red": lambda at: pd.read_csv(at / "winequality-red.csv", sep=";").iloc[:, :-1],
    "white": lambda at: pd.read_csv(at / "winequality-white.csv", sep=";").iloc[:, :-1],
    "yeast": lambda at: pd.read_csv(at / "yeast.data", sep=r"\s+", header=None).iloc[:, 1:-1],
    "breast": lambda at: pd.read_csv(at / "wdbc.data", header=None).iloc[:, 2:],
}
PUBLISHED = {  # of not-MIWAE's table, by the net's decoder; and the mean's
    "deep": dict(zip(TABLES, (0.74, 1.12, 1.07, 1.04, 1.38, 0.76))),
    "the best linear one": dict(zip(TABLES, (0.57, 1.31, 1.13, 0.99, 0.77, 0.72))),
    "column means": dict(zip(TABLES, (1.73, 1.85, 1.84, 1.74, 1.73, 1.82))),
    "missForest": {"white": 1.62},  # of the demonstration
}


class MissingForAReason(nn.Module):
    """z ~ N(0, I), x | z ~ N(decoder(z), sigma^2), and of each x_d whether it is seen depends on it.

    A linear decoder has one sigma for all, as probabilistic PCA; a deep one predicts it, as the paper's.
    """

    def __init__(self, columns: int, latent_dim: int, hidden: tuple[int, ...], reason: bool) -> None:
        super().__init__()
        self.columns, self.latent_dim, self.hidden, self.reason = columns, latent_dim, hidden, reason
        self.decoder = nets.MLP(latent_dim, hidden, 2 * columns if hidden else columns)
        self.raw_scale = nn.Parameter(torch.zeros(()))
        self.slope, self.middle = nn.Parameter(torch.zeros(columns)), nn.Parameter(torch.zeros(columns))

    def forward(self, x: Tensor, seen: Tensor) -> None:
        """x (B, D), anything where it is missing; seen (B, D), 1 where it is not."""
        columns = pyro.plate("columns", self.columns, dim=-2)
        with pyro.plate("data", len(x), dim=-1):
            z = pyro.sample("z", dist.Normal(x.new_zeros(self.latent_dim), 1.0).to_event(1))
            z = z.squeeze(-3) if z.dim() > 2 else z  # of several particles: no dim for the columns
            raw = self.decoder(z).transpose(-1, -2)
            loc, raw_scale = raw.chunk(2, -2) if self.hidden else (raw, self.raw_scale)
            with columns:
                normal = dist.Normal(loc, functional.softplus(raw_scale) + 1e-3)
                whole = pyro.sample("x", normal, obs=x.T, obs_mask=seen.T > 0.5)
                if self.reason:
                    slope, middle = functional.softplus(self.slope).unsqueeze(-1), self.middle.unsqueeze(-1)
                    pyro.sample("s", dist.Bernoulli(logits=-slope * (whole - middle)), obs=seen.T)


class Guide(nn.Module):
    """q(z | x_seen), zeros in the gaps."""

    def __init__(self, columns: int, latent_dim: int, hidden: tuple[int, ...]) -> None:
        super().__init__()
        self.columns, self.latent_dim, self.hidden = columns, latent_dim, hidden
        self.encoder = nets.MLPEncoder((columns,), latent_dim, hidden)

    def forward(self, x: Tensor, seen: Tensor) -> None:
        loc, scale = self.encoder(x * seen)
        with pyro.plate("data", len(x), dim=-1):
            pyro.sample("z", dist.Normal(loc, scale).to_event(1))


@torch.no_grad()
def impute(pair: pv.Pair, x: Tensor, seen: Tensor, num_proposals: int) -> Tensor:
    """E[x_missing | x_seen, s] by self-normalised importance sampling, (2, N, D).

    First the mean of the drawn x, which the mask's site has weighed; then that of the decoder's means, which
    the paper's code takes.
    """
    done = []
    for rows in torch.arange(len(x)).split(200):
        size, top = 200, torch.full((len(rows),), -torch.inf)
        total, weight = torch.zeros(2, len(rows), x.shape[1]), torch.zeros(len(rows))
        for _ in range(num_proposals // size):
            drawn = estimators.IWAE(size).draw(pair.model, pair.guide, x[rows], seen[rows])
            nodes = drawn.model_trace.nodes  # of (K, D, B); in x, what is seen is as it is
            values = torch.stack([nodes["x"]["value"], nodes["x_unobserved"]["fn"].loc])
            log_weight = drawn.log_weight
            new = torch.maximum(top, log_weight.amax(0))
            share, kept = (log_weight - new).exp(), (top - new).exp()
            total = total * kept.unsqueeze(-1) + (share.unsqueeze(1) * values).sum(1).transpose(-1, -2)
            weight, top = weight * kept + share.sum(0), new
        done.append(total / weight.unsqueeze(-1))
    return torch.cat(done, 1)


def one_table(name: str, options: argparse.Namespace) -> dict[str, Any]:
    """The errors of every method on one table."""
    table = TABLES[name](data.data_root() / "uci").to_numpy(np.float64)
    whole = torch.from_numpy(((table - table.mean(0)) / table.std(0)).astype(np.float32))
    half = whole.shape[1] // 2
    seen = torch.ones_like(whole)
    seen[:, :half] = (whole[:, :half] <= whole[:, :half].mean(0)).float()
    x = whole * seen

    def error(guess: Tensor) -> float:
        return float((guess - whole)[seen < 0.5].square().mean().sqrt())

    means = x.sum(0) / seen.sum(0)
    gappy = whole.masked_fill(seen < 0.5, torch.nan).numpy()
    row: dict[str, Any] = {"rows": len(whole), "columns": whole.shape[1], "missing": float(1 - seen.mean())}
    row["column means"] = error(means.expand_as(whole))
    mice = IterativeImputer(max_iter=10, random_state=0).fit_transform(gappy)
    row["MICE (scikit-learn)"] = error(torch.from_numpy(mice).float())
    latent_dim = whole.shape[1] - 1
    for kind, hidden in (("linear", ()), ("deep", (128, 128))):
        for reason in (False, True):
            torch.manual_seed(options.seed)
            model = MissingForAReason(whole.shape[1], latent_dim, hidden, reason)
            pair = pv.Pair(model, Guide(whole.shape[1], latent_dim, (128, 128)))
            started = time.perf_counter()
            epochs = max(1, options.steps * 16 // len(x))
            fitting = {"batch_size": 16, "seed": options.seed, "capture": True, "check": False}
            rows = {"x": x, "seen": seen}
            pv.fit(pair, estimators.IWAE(20), rows, epochs=epochs, progress=False, **fitting)
            torch.manual_seed(options.seed)
            which = f"{kind}, mask {'modelled' if reason else 'ignored'}"
            drawn, means = impute(pair, x, seen, options.num_proposals)
            row[which], row[f"{which}, decoder's means"] = error(drawn), error(means)
            row[f"seconds, {which}"] = time.perf_counter() - started
            print(name, which, round(row[which], 3), round(error(means), 3), flush=True)
    return row


def main() -> None:
    """Hide, train, impute, compare, a table after the other."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--steps", type=int, default=10_000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--num-proposals", type=int, default=2000)
    parser.add_argument("--tables", nargs="*", default=list(TABLES))
    parser.add_argument("--out", type=Path, required=True)
    options = parser.parse_args()
    settings = {
        "protocol": "the first half of the columns missing above their mean; standardised whole",
        "network": "d = D - 1, 128-128, tanh, IWAE, K = 20, batch 16, Adam 1e-3",
        "steps": options.steps,
        "proposals": options.num_proposals,
        "seed": options.seed,
    }
    before = json.loads(options.out.read_text()) if options.out.exists() else {}
    known = before.get("root mean squared error", {}) if before.get("settings") == settings else {}
    for name in options.tables:
        if name in known:
            continue
        known[name] = one_table(name, options)
        rows = {each: known[each] for each in TABLES if each in known}
        result: dict[str, Any] = {
            "settings": settings,
            "machine": {"processor": platform.processor() or platform.machine(), "torch": torch.__version__},
            "root mean squared error": rows,
            "published": PUBLISHED,
        }
        text = json.dumps(result, indent=2)
        atomic_write(options.out, lambda path, text=text: path.write_text(text + "\n"))


if __name__ == "__main__":
    main()
