"""Milliseconds of a training step: ours captured and as written, stock Pyro SVI, hand-written PyTorch,
pythae, NumPyro.

Every contender trains the same nets on batches of the same bytes, binarised afresh at every step, with Adam,
and looks at the loss after each. Each lives in a process of its own; they take turns in one run, and the
medians of the turns are kept and the ratios of neighbouring turns, so that a busy machine is unfair to
none. NumPyro and pythae have environments of their own, which the script makes (`--environments`); pythae's
sees this one's torch.

    python benchmarks/step_time.py                                    # all that has no result yet
    python benchmarks/step_time.py --points "IWAE 100 50" --again     # one point anew
    python benchmarks/step_time.py --table                            # the results as a table
    python benchmarks/step_time.py --contenders captured bf16 --out benchmarks/results/step_time_bf16.json
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import shutil
import statistics
import subprocess
import sys
import tempfile
import venv
from pathlib import Path
from typing import Any

import pyro
import torch

from ppl_vae.runs import atomic_write

MLP = {"kind": "dense", "hidden": [400], "latent_dim": 20}
IWAE = {"kind": "dense", "hidden": [200, 200], "latent_dim": 50}
CONV = {"kind": "convolutional", "latent_dim": 20}
TWO = {"kind": "two layers", "hidden": [200, 100], "latent_dim": [100, 50]}
DENSE = [(128, 1), (1000, 1), (20, 50), (100, 50)]
GRID: dict[str, dict[str, Any]] = {
    f"{name} {size} {particles}": net | {"batch": size, "num_particles": particles}
    for name, net, sizes in [
        ("MLP", MLP, DENSE),
        ("IWAE", IWAE, DENSE),
        ("convolutional", CONV, [(128, 1)]),
        ("two-layer", TWO, [(20, 50)]),
    ]
    for size, particles in sizes
}
NETS = {
    "MLP": "784-400-20",
    "IWAE": "784-200-200-50",
    "convolutional": "4x4 kernels of stride 2 with 32 and 64 channels, 256 units, 20 latents, and its "
    "mirror image",
    "two-layer": "784-200-200-100-100-100-50: two stochastic layers, of 100 and of 50",
}
TITLES = {
    "captured": "captured",
    "eager": "as written",
    "pyro": "stock Pyro SVI",
    "hand": "hand-written PyTorch",
    "pythae": "pythae",
    "numpyro": "NumPyro, jitted",
}
EXTRA = {"bf16": "captured, products in bfloat16"}  # on a processor that has the units; asked for by name
GOALS = {"pyro": 0.5, "hand": 0.7, "numpyro": 1.0}
PACKAGES = {
    "numpyro": ["numpyro", "jax[cpu]"],
    # its other requirements are torch, which the main environment has, and what Python has had since 3.7
    "pythae": ["cloudpickle", "imageio", "numpy", "pydantic>=2", "scikit-learn", "scipy", "tqdm"],
}
HERE = Path(__file__).parent

Times = dict[str, list[float]]


def environment(name: str, folder: Path) -> Path:
    """The Python of a contender's environment, which is made where it is not there."""
    python = folder / name / "bin" / "python"
    if name not in PACKAGES:
        return Path(sys.executable)
    if not python.exists():
        venv.create(folder / name, with_pip=True)
        subprocess.run([python, "-m", "pip", "install", "-q", *PACKAGES[name]], check=True)
        if name == "pythae":
            subprocess.run([python, "-m", "pip", "install", "-q", "--no-deps", "pythae"], check=True)
            packages = next((folder / name).glob("lib/python*/site-packages"))
            here = Path(torch.__file__).parents[1]
            (packages / "main_environment.pth").write_text(f"{here}\n")
    return python


class Contender:
    """A process that makes steps when it is asked to."""

    def __init__(self, name: str, options: argparse.Namespace, cache: Path) -> None:
        self.name = name
        script = HERE / (f"step_time_{name}.py" if name in PACKAGES else "step_time_torch.py")
        python = environment(name, options.environments)
        # Inductor's cache is empty at first, so that compiling is part of the time to the first step
        settings = {"OMP_NUM_THREADS": str(options.threads), "TORCHINDUCTOR_CACHE_DIR": str(cache)}
        self.process = subprocess.Popen(
            [python, script, name, str(options.threads)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env=os.environ | settings,
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
        raise RuntimeError(f"{self.name} ended without an answer to {question}")

    def close(self) -> None:
        assert self.process.stdin is not None
        self.process.stdin.close()
        self.process.wait()


def measure(name: str, options: argparse.Namespace) -> dict[str, Any]:
    """Every contender's milliseconds a step at one point of the grid, and what goes with them."""
    point = GRID[name]
    names = [each for each in options.contenders if point["kind"] != "two layers" or each != "pythae"]
    cache = Path(tempfile.mkdtemp(prefix="step_time_"))
    contenders: dict[str, Contender] = {}
    try:
        first: dict[str, float] = {}
        for each in names:
            contenders[each] = Contender(each, options, cache)
            first[each] = contenders[each].ask({"make": point})["first"]
            if each == "captured":
                again = Contender(each, options, cache)
                first["captured, compiled before"] = again.ask({"make": point})["first"]
                again.close()
        for contender in contenders.values():
            contender.ask({"seconds": options.seconds})  # warm up
        times: Times = {each: [] for each in names}
        for _ in range(options.repeats):
            for each in names:
                times[each].append(contenders[each].ask({"seconds": options.seconds})["milliseconds"])
        memory = {each: contenders[each].ask({"memory": True}) for each in names}
        profile = contenders["captured"].ask({"profile": True})["profile"]
    finally:
        for contender in contenders.values():
            contender.close()
        shutil.rmtree(cache, ignore_errors=True)
    ratios = {
        each: statistics.median(a / b for a, b in zip(times["captured"], times[each], strict=True))
        for each in names
        if each != "captured"
    }
    missed = [
        f"{each} {ratios[each]:.2f} > {goal}"
        for each, goal in GOALS.items()
        if each in ratios and ratios[each] > goal
    ]
    return {
        **point,
        "milliseconds a step": {each: round(statistics.median(times[each]), 3) for each in names},
        "captured / each": {each: round(ratio, 3) for each, ratio in ratios.items()},
        "goals missed": missed,
        "seconds to the first step": {each: round(seconds, 2) for each, seconds in first.items()},
        "peak memory, MiB": {each: round(memory[each]["peak"]) for each in names},
        "peak memory above the imports', MiB": {
            each: round(memory[each]["peak"] - memory[each]["imported"]) for each in names
        },
        "captured: milliseconds by operator, under the profiler": profile,
        "all turns": {each: [round(ms, 4) for ms in turns] for each, turns in times.items()},
    }


def machine(options: argparse.Namespace) -> dict[str, Any]:
    """Where this was measured."""
    processor = platform.processor() or platform.machine()
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.exists():
        models = [
            line.split(":")[1].strip() for line in cpuinfo.read_text().splitlines() if "model name" in line
        ]
        processor = f"{models[0]}, {torch.backends.cpu.get_cpu_capability()}" if models else processor
    versions = {"python": platform.python_version(), "torch": torch.__version__, "pyro": pyro.__version__}
    for name, packages in {"numpyro": ["numpyro", "jax"], "pythae": ["pythae"]}.items():
        if name in options.contenders:
            code = f"from importlib.metadata import version\nprint(*map(version, {packages!r}))"
            found = subprocess.run(
                [environment(name, options.environments), "-c", code],
                capture_output=True,
                text=True,
                check=True,
            )
            versions |= dict(zip(packages, found.stdout.split(), strict=True))
    return {"processor": processor, "threads": options.threads, "versions": versions}


def table(report: dict[str, Any]) -> str:
    """The results in Markdown."""
    heads = [TITLES[each] for each in TITLES]
    lines = [
        f"| net, batch, K | {' | '.join(heads)} | captured / Pyro, hand-written, NumPyro | first step, s |",
        f"|---|{'---|' * (len(heads) + 2)}",
    ]
    for name in GRID:
        if name not in report["grid"]:
            continue
        found = report["grid"][name]
        net, size, particles = name.split()
        times, ratios = found["milliseconds a step"], found["captured / each"]
        taken = found["peak memory above the imports', MiB"]
        cells = [f"{times[each]:.1f} ({taken[each]})" if each in times else "" for each in TITLES]
        shares = ", ".join(f"{ratios[each]:.2f}" if each in ratios else "-" for each in GOALS)
        first = found["seconds to the first step"]
        start = f"{first['captured']:.0f} ({first['captured, compiled before']:.0f} again)"
        if "numpyro" in first:
            start += f"; NumPyro {first['numpyro']:.0f}"
        label = f"{net}, {size}, {particles}"
        lines.append(f"| {label} | {' | '.join(cells)} | {shares} | {start} |")
    where = report["machine"]
    versions = ", ".join(f"{name} {version}" for name, version in where["versions"].items())
    notes = [
        f"Median milliseconds of a step on {where['processor']}, {where['threads']} threads; {versions}.",
        "In parentheses the peak memory above that of the imports, MiB.",
        "",
    ]
    return "\n".join([*notes, *lines])


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--points", nargs="+", default=list(GRID), choices=list(GRID), metavar="POINT")
    parser.add_argument("--contenders", nargs="+", default=list(TITLES), choices=[*TITLES, *EXTRA])
    parser.add_argument("--again", action="store_true", help="measure points that have a result too")
    parser.add_argument("--repeats", type=int, default=9, help="turns of each contender")
    parser.add_argument("--seconds", type=float, default=0.5, help="of a turn")
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--environments", type=Path, default=Path.home() / ".cache" / "ppl_vae_bench")
    parser.add_argument("--out", type=Path, default=Path("benchmarks/results/step_time.json"))
    parser.add_argument(
        "--table", action="store_true", help="print the results as a table, and measure nothing"
    )
    options = parser.parse_args()
    report = json.loads(options.out.read_text()) if options.out.exists() else {"grid": {}}
    if options.table:
        print(table(report))
        return
    report["settings"] = {
        "nets": NETS,
        "objective": "ELBO for one particle, the importance-weighted bound for more",
        "optimizer": "Adam, 1e-3",
        "data": "bytes in memory, indexed and binarised afresh at every step",
        "turns of each contender": options.repeats,
        "seconds a turn": options.seconds,
        "ratios": "medians over neighbouring turns",
        "goals for captured / each": GOALS,
    }
    report["machine"] = machine(options)
    for name in options.points:
        if name in report["grid"] and not options.again:
            continue
        report["grid"][name] = found = measure(name, options)
        shown = {key: found[key] for key in ("milliseconds a step", "captured / each", "goals missed")}
        print(name, json.dumps(shown), file=sys.stderr)
        text = json.dumps(report, indent=2)
        atomic_write(options.out, lambda path, text=text: path.write_text(text + "\n"))


if __name__ == "__main__":
    main()
