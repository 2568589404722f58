"""Milliseconds of a training step: ours as written, ours captured, stock Pyro SVI, hand-written PyTorch, others.

Every contender trains the same network on the same batch of dynamically binarised pixels, indexed from
uint8 rows in memory, with Adam; all of them take turns in one run, and medians and the ratios of neighbouring
turns are kept, so that a busy machine is unfair to none. NumPyro runs in an environment of its own,
which the script makes in a folder (`--environments`) and talks to through pipes.

    python benchmarks/step_time.py --out benchmarks/results/step_time.json
    python benchmarks/step_time.py --others numpyro
"""

from __future__ import annotations

import argparse
import itertools
import json
import math
import platform
import resource
import statistics
import subprocess
import sys
import time
import venv
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyro
import torch
from pyro.infer import SVI, RenyiELBO, Trace_ELBO
from torch import nn
from torch.nn import functional

import ppl_vae as pv
from ppl_vae import data, estimators, guides, likelihoods, models, nets
from ppl_vae.run_folder import atomic_write
from ppl_vae.step import Step

ROWS, PIXELS = 10_000, 784
# hidden widths, latent_dim
NETWORKS = {"MLP 784-400-20": ((400,), 20), "IWAE 784-200-200-50": ((200, 200), 50)}
GRID = [(128, 1), (1000, 1), (20, 50), (100, 50)]
PACKAGES = {"numpyro": ["numpyro", "jax[cpu]"]}

Run = Callable[[], Any]


def rows() -> torch.Tensor:
    """Pixels as blurred as digits are: most near 0, some near 1; speed does not depend on more."""
    noise = torch.Generator().manual_seed(0)
    return (torch.rand(ROWS, PIXELS, generator=noise).pow(3) * 255).to(torch.uint8)


def batches(size: int) -> Callable[[], torch.Tensor]:
    """The indices of one batch after another, in a shuffled order, for ever."""
    noise = torch.Generator().manual_seed(1)

    def forever() -> Any:
        while True:
            chunks = torch.randperm(ROWS, generator=noise).split(size)
            yield from (chunk for chunk in chunks if len(chunk) == size)

    return forever().__next__


def make_pair(network: str) -> pv.Pair:
    hidden, latent_dim = NETWORKS[network]
    torch.manual_seed(0)
    decoder = nets.MLPDecoder(latent_dim, (PIXELS,), hidden)
    encoder = nets.MLPEncoder((PIXELS,), latent_dim, hidden)
    return pv.Pair(models.VAE(likelihoods.Bernoulli(1), decoder, latent_dim), guides.MeanField(encoder))


def ours(network: str, size: int, num_particles: int, capture: bool) -> Run:
    pair = make_pair(network)
    estimator = estimators.ELBO() if num_particles == 1 else estimators.IWAE(num_particles)
    optimizer = torch.optim.Adam(pair.parameters(), lr=1e-3, fused=True)
    step = Step(pair, estimator, optimizer, capture=capture)
    split = data.Split(data.rows.ResidentRows(rows()), divisor=255.0, dynamic=True)
    following = batches(size)
    return lambda: step.on(split, following())


def stock_pyro(network: str, size: int, num_particles: int) -> Run:
    pair = make_pair(network)
    loss = (
        Trace_ELBO()
        if num_particles == 1
        else RenyiELBO(alpha=0.0, num_particles=num_particles, vectorize_particles=True, max_plate_nesting=1)
    )
    svi = SVI(*pair.pyro(), pyro.optim.Adam({"lr": 1e-3}), loss)
    pixels, following = rows(), batches(size)
    return lambda: svi.step(torch.bernoulli(pixels[following()].float() / 255))


class HandWritten(nn.Module):
    """What one writes without a library."""

    def __init__(self, network: str) -> None:
        super().__init__()
        hidden, latent_dim = NETWORKS[network]

        def layers(*sizes: int) -> nn.Sequential:
            parts: list[nn.Module] = []
            for number, (inputs, outputs) in enumerate(itertools.pairwise(sizes)):
                parts += [nn.Tanh()] if number else []
                parts.append(nn.Linear(inputs, outputs))
            return nn.Sequential(*parts)

        self.encoder = layers(PIXELS, *hidden, 2 * latent_dim)
        self.decoder = layers(latent_dim, *hidden, PIXELS)

    def forward(self, x: torch.Tensor, num_particles: int) -> torch.Tensor:
        """Minus the importance-weighted bound: for one particle the ELBO."""
        loc, log_scale = self.encoder(x).chunk(2, -1)
        noise = torch.randn(num_particles, *loc.shape)
        z = loc + log_scale.exp() * noise
        logits = self.decoder(z)
        likelihood = -functional.binary_cross_entropy_with_logits(
            logits, x.expand_as(logits), reduction="none"
        ).sum(-1)
        ratio = (0.5 * noise.square() - 0.5 * z.square() + log_scale).sum(-1)
        log_weight = likelihood + ratio
        return -(log_weight.logsumexp(0) - math.log(num_particles)).mean()


def hand_written(network: str, size: int, num_particles: int) -> Run:
    torch.manual_seed(0)
    net = HandWritten(network)
    optimizer = torch.optim.Adam(net.parameters(), lr=1e-3)
    pixels, following = rows(), batches(size)

    def step() -> float:
        x = torch.bernoulli(pixels[following()].float() / 255)
        optimizer.zero_grad()
        loss = net(x, num_particles)
        loss.backward()
        optimizer.step()
        return loss.item()

    return step


class Other:
    """A contender in an environment of its own: `step_time_<name>.py`, asked for so many steps at a time."""

    def __init__(self, name: str, folder: Path, threads: int) -> None:
        self.python = folder / name / "bin" / "python"
        if not self.python.exists():
            venv.create(folder / name, with_pip=True)
            subprocess.run([self.python, "-m", "pip", "install", "-q", *PACKAGES[name]], check=True)
        script = Path(__file__).with_name(f"step_time_{name}.py")
        self.process = subprocess.Popen(
            [self.python, script, str(threads)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )

    def ask(self, question: dict[str, Any]) -> dict[str, Any]:
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        self.process.stdin.write(json.dumps(question) + "\n")
        self.process.stdin.flush()
        for line in self.process.stdout:
            if line.startswith("{"):
                answer: dict[str, Any] = json.loads(line)
                return answer
        raise RuntimeError(f"{self.python} ended without an answer to {question}")


def turn(run: Run, seconds: float) -> float:
    """Median milliseconds of the steps that fit into so many seconds, five at least."""
    times: list[float] = []
    started = time.perf_counter()
    while len(times) < 5 or time.perf_counter() - started < seconds:
        before = time.perf_counter()
        run()
        times.append(1e3 * (time.perf_counter() - before))
    return statistics.median(times)


def measure(network: str, size: int, num_particles: int, options: argparse.Namespace, others: dict) -> dict:
    """Every contender's milliseconds a step at one point of the grid, and their ratios."""
    made: dict[str, Callable[[], Run]] = {
        "captured": lambda: ours(network, size, num_particles, True),
        "eager": lambda: ours(network, size, num_particles, False),
        "stock Pyro SVI": lambda: stock_pyro(network, size, num_particles),
        "hand-written PyTorch": lambda: hand_written(network, size, num_particles),
    }
    runs: dict[str, Callable[[float], float]] = {}
    first, memory = {}, {}
    hidden, latent_dim = NETWORKS[network]
    point = {"hidden": hidden, "latent_dim": latent_dim, "batch": size, "num_particles": num_particles}
    for name, make in made.items():
        before = time.perf_counter()
        run = make()
        run()
        first[name] = time.perf_counter() - before
        memory[name] = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
        runs[name] = lambda seconds, run=run: turn(run, seconds)
    for name, other in others.items():
        answer = other.ask({"make": point})
        first[name], memory[name] = answer["first"], answer["memory"]
        runs[name] = lambda seconds, other=other: other.ask({"seconds": seconds})["milliseconds"]
    times: dict[str, list[float]] = {name: [] for name in runs}
    for _ in range(options.repeats):
        for name, run_for in runs.items():
            times[name].append(run_for(options.seconds))
    ratios = {
        f"captured / {name}": statistics.median(a / b for a, b in zip(times["captured"], times[name]))
        for name in runs
        if name != "captured"
    }
    return {
        "network": network,
        "batch": size,
        "num_particles": num_particles,
        "milliseconds a step": {name: statistics.median(each) for name, each in times.items()},
        "ratios": ratios,
        "seconds to the first step": first,
        "peak memory so far, MiB": memory,
        "all turns": times,
    }


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--repeats", type=int, default=9, help="turns of each contender")
    parser.add_argument("--seconds", type=float, default=1.0, help="of a turn")
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--points", type=int, default=len(GRID), help="of the grid, to try the script")
    parser.add_argument("--networks", nargs="+", default=list(NETWORKS), choices=list(NETWORKS))
    parser.add_argument("--others", nargs="*", default=[], choices=list(PACKAGES))
    parser.add_argument("--environments", type=Path, default=Path.home() / ".cache" / "ppl_vae_bench")
    parser.add_argument("--out", type=Path, default=Path("benchmarks/results/step_time.json"))
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    others = {name: Other(name, options.environments, options.threads) for name in options.others}
    points = []
    for network in options.networks:
        for size, num_particles in GRID[: options.points]:
            pyro.clear_param_store()
            with pyro.validation_enabled(False):
                points.append(measure(network, size, num_particles, options, others))
            print(json.dumps({k: v for k, v in points[-1].items() if k != "all turns"}), file=sys.stderr)
    report = {
        "settings": {
            "optimizer": "Adam, 1e-3",
            "data": f"{ROWS} rows of {PIXELS} bytes, binarised afresh at every step",
            "objective": "ELBO for one particle, the importance-weighted bound for more",
            "turns of each contender": options.repeats,
            "seconds a turn": options.seconds,
        },
        "machine": {
            "processor": platform.processor() or platform.machine(),
            "threads": options.threads,
            "torch": torch.__version__,
            "pyro": pyro.__version__,
        },
        "grid": points,
    }
    text = json.dumps(report, indent=2)
    atomic_write(options.out, lambda path: path.write_text(text + "\n"))


if __name__ == "__main__":
    main()
