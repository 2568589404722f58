"""The toy of Rainforth et al. 2018, Figure 1: how the signal-to-noise ratio of gradients goes with K.

    z ~ N(mu, I),   x | z ~ N(z, I),   q(z | x) = N(A x + b, (2/3) I),   20 dimensions

The parameters are at the optimum for 1,024 data points drawn from the model, mu = mean(x), A = I/2,
b = mu/2, and then perturbed by N(0, 0.01^2). The gradients are those of a handful of the points. All
draws are vectorised; the guide's IWAE gradient should lose its signal as K^(-1/2), the doubly
reparameterised one should gain as K^(1/2), and so should the model's. Those rates are the limits of large
K, with a relative error of order 1 / K (theorem 1 of the paper), so the slope is b in

    log SNR = a + b log K + c / K

fitted to the whole ladder; the straight line's, c = 0, stands beside it.

    python benchmarks/snr.py --draws 10000 --out benchmarks/results/snr.json
"""

from __future__ import annotations

import argparse
import json
import platform
import time
from pathlib import Path
from typing import Any

import matplotlib.pyplot as plt
import pyro
import pyro.distributions as dist
import torch
import xarray
from torch import Tensor, nn

import ppl_vae as pv
from ppl_vae import comparison, estimators
from ppl_vae.comparison import AtPoint
from ppl_vae.runs import atomic_write

DIM, NUM_POINTS, PERTURBATION = 20, 1024, 0.01
LADDER = (1, 2, 5, 10, 20, 50, 100, 200, 500, 1000)
PUBLISHED = {("guide", "IWAE"): -0.5, ("guide", "DReG"): 0.5, ("model", "IWAE"): 0.5, ("model", "DReG"): 0.5}


class Model(nn.Module):
    """z ~ N(mu, I), x | z ~ N(z, I): log p(x) is that of N(mu, 2 I)."""

    def __init__(self, loc: Tensor) -> None:
        super().__init__()
        self.loc = nn.Parameter(loc)

    def forward(self, x: Tensor) -> Any:
        with pyro.plate("data", len(x), dim=-1):
            z = pyro.sample("z", dist.Normal(self.loc, 1.0).to_event(1))
            return pyro.sample("x", dist.Normal(z, 1.0).to_event(1), obs=x)

    def log_evidence(self, x: Tensor) -> Tensor:
        return dist.Normal(self.loc, 2**0.5).to_event(1).log_prob(x)


class Guide(nn.Module):
    """q(z | x) = N(A x + b, (2/3) I)."""

    def __init__(self, slope: Tensor, offset: Tensor) -> None:
        super().__init__()
        self.slope, self.offset = nn.Parameter(slope), nn.Parameter(offset)

    def forward(self, x: Tensor) -> Any:
        with pyro.plate("data", len(x), dim=-1):
            loc = nn.functional.linear(x, self.slope, self.offset)
            return pyro.sample("z", dist.Normal(loc, (2 / 3) ** 0.5).to_event(1))


def make_pair(seed: int) -> tuple[pv.Pair, Tensor]:
    """The pair beside its optimum, and the data whose optimum that is."""
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        x = torch.randn(DIM) + 2**0.5 * torch.randn(NUM_POINTS, DIM)
        best = x.mean(0)
        parameters = [best, torch.eye(DIM) / 2, best / 2]
        loc, slope, offset = (p + PERTURBATION * torch.randn_like(p) for p in parameters)
    return pv.Pair(Model(loc), Guide(slope, offset)), x


def figure(result: AtPoint, path: Path) -> None:
    """The guide's and the model's signal-to-noise ratio side by side."""
    _, axes = plt.subplots(1, 2, figsize=(11, 4.2), layout="constrained", sharex=True)
    for part, ax in zip(("guide", "model"), axes):
        result.plot_snr(part, correction=True, ax=ax)
        ax.legend(frameon=False, loc="best")
        ax.set_title(f"{part}'s parameters")
        ax.tick_params(axis="x", rotation=45)
    atomic_write(path, lambda temporary: axes[0].figure.savefig(temporary, dpi=150))


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--draws", type=int, default=10_000, help="gradients drawn for each K; twice as many of IWAE's"
    )
    parser.add_argument("--num-data", type=int, default=4, help="data points whose gradients are taken")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path, default=Path("benchmarks/results/snr.json"))
    parser.add_argument(
        "--refit", action="store_true", help="fit and draw what an earlier run has left beside --out anew"
    )
    options = parser.parse_args()
    if options.refit:
        report = json.loads(options.out.read_text())
        write(
            AtPoint.load(options.out.with_suffix(".nc")),
            report["settings"],
            report["machine"],
            report["seconds"],
            options.out,
        )
        return
    pair, x = make_pair(options.seed)
    started = time.perf_counter()
    # the gradient whose signal vanishes is the one that takes more draws to be seen
    draws = {estimators.IWAE: 2 * options.draws, estimators.DReG: options.draws}
    found = [
        comparison.at_point(
            pair,
            [estimator],
            x[: options.num_data],
            num_particles=LADDER,
            draws=count,
            reference_draws=0,
            seed=options.seed,
        )
        for estimator, count in draws.items()
    ]
    result = AtPoint(xarray.concat([each.dataset for each in found], "estimator", combine_attrs="override"))
    seconds = time.perf_counter() - started
    settings = {
        "dimensions": DIM,
        "points that set the parameters": NUM_POINTS,
        "points whose gradients are taken": options.num_data,
        "perturbation": PERTURBATION,
        "draws": {kind.__name__: count for kind, count in draws.items()},
        "K": list(LADDER),
        "seed": options.seed,
    }
    machine = {
        "processor": platform.processor() or platform.machine(),
        "threads": torch.get_num_threads(),
        "torch": torch.__version__,
    }
    write(result, settings, machine, seconds, options.out)


def write(result: AtPoint, settings: Any, machine: Any, seconds: float, out: Path) -> None:
    """Fit the slopes, write the report, the figure and the draws' statistics, and print them."""
    slopes = []
    for (part, name), published in PUBLISHED.items():
        fitted = result.slope(name, part, correction=True)
        straight = result.slope(name, part)
        slopes.append(
            {
                "part": part,
                "estimator": name,
                "slope": fitted.slope,
                "standard error": fitted.standard_error,
                "published": published,
                "correction c": fitted.correction,
                "points": fitted.num_points,
                "slope of a straight line": straight.slope,
                "its standard error": straight.standard_error,
                "within 0.1": abs(fitted.slope - published) <= 0.1,
            }
        )
    report = {
        "settings": settings,
        "machine": machine,
        "seconds": seconds,
        "slopes": slopes,
        "table": json.loads(result.table.to_json(orient="records")),
    }
    text = json.dumps(report, indent=2) + "\n"
    atomic_write(out, lambda path: path.write_text(text))
    figure(result, out.with_suffix(".png"))
    result.save(out.with_suffix(".nc"))
    print(result)
    print(f"{seconds:.0f} s")
    for each in slopes:
        print(
            f"{each['part']:>6} {each['estimator']}: {each['slope']:+.3f} ± {each['standard error']:.3f}",
            end="",
        )
        print(
            f"  (published {each['published']:+.1f}; straight line {each['slope of a straight line']:+.3f})"
        )


if __name__ == "__main__":
    main()
