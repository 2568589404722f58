"""README, CONTRIBUTING and docs: their programs run, their commands work, their table and links are true.

`python -m tests.test_readme` writes the table of docs/parts.md anew.
"""

from __future__ import annotations

import ast
import inspect
import re
import shlex
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
import pytest
from PIL import Image
from torch import nn

import ppl_vae.kl
from ppl_vae import (
    comparison,
    compression,
    estimators,
    evaluate,
    guides,
    likelihoods,
    models,
    nets,
    penalties,
    plots,
    priors,
    queries,
)
from ppl_vae.cli import COMMANDS, OK, main
from ppl_vae.data.named import NAMED
from ppl_vae.estimators import Estimator

ROOT = Path(__file__).parents[1]
README, CONTRIBUTING, CHANGELOG = (ROOT / f"{name}.md" for name in ("README", "CONTRIBUTING", "CHANGELOG"))
PARTS, COMMAND_LINE, SPEED = (ROOT / f"docs/{name}.md" for name in ("parts", "command-line", "speed"))
PAGES = [
    README,
    CONTRIBUTING,
    *sorted((ROOT / "docs").glob("*.md")),
    *sorted((ROOT / "docs/guides").glob("*.md")),
]
BEGIN, END = "<!-- table: ", "<!-- end of table -->"

Lines = Iterator[tuple[str, str]]


def public(package: ModuleType) -> Iterator[tuple[str, Any]]:
    for name in sorted(package.__all__, key=str.lower):
        yield name, getattr(package, name)


def subclasses(package: ModuleType, base: type) -> Lines:
    for name, thing in public(package):
        if inspect.isclass(thing) and issubclass(thing, base) and not inspect.isabstract(thing):
            yield name, first_sentence(thing)


def functions(package: ModuleType) -> Lines:
    for name, thing in public(package):
        if inspect.isfunction(thing):
            yield name, first_sentence(thing)


def treatments(package: ModuleType) -> Lines:
    for name, thing in public(package):
        if inspect.isclass(thing) and hasattr(thing, "__dataclass_fields__"):
            yield name, first_sentence(thing)


def first_sentence(thing: object) -> str:
    paragraph = inspect.getdoc(thing).split("\n\n")[0]
    return " ".join(paragraph.split())


def table() -> str:
    """The table of what there is, from the packages and their docstrings."""
    kinds: dict[str, Lines] = {
        "model (`models`)": subclasses(models, nn.Module),
        "guide (`guides`)": subclasses(guides, nn.Module),
        "prior (`priors`)": subclasses(priors, nn.Module),
        "net (`nets`)": subclasses(nets, nn.Module),
        "likelihood (`likelihoods`)": subclasses(likelihoods, nn.Module),
        "estimator (`estimators`)": subclasses(estimators, Estimator),
        "KL treatment (`kl`)": treatments(ppl_vae.kl),
        "penalty (`penalties`)": treatments(penalties),
        "data (`data.load`)": ((name, known.summary) for name, known in NAMED.items()),
        "question (`pv`)": functions(queries),
        "evaluation (`evaluate`)": functions(evaluate),
        "compression (`pv`)": functions(compression),
        "picture (`plots`)": functions(plots),
    }
    rows = ["| kind | name | what it is |", "|---|---|---|"]
    for kind, lines in kinds.items():
        for number, (name, line) in enumerate(lines):
            rows.append(f"| {kind if number == 0 else ''} | `{name}` | {line.replace('|', chr(92) + '|')} |")
    return "\n".join(rows)


def with_table(text: str) -> str:
    """A page's text with a fresh table between its two marks."""
    before, _, rest = text.partition(BEGIN)
    mark, _, rest = rest.partition("\n")
    _, _, after = rest.partition(END)
    return f"{before}{BEGIN}{mark}\n{table()}\n{END}{after}"


def blocks(path: Path, language: str) -> list[tuple[int, str]]:
    """(line, code) of each fenced block of a language."""
    text = path.read_text(encoding="utf-8")
    fences = re.finditer(rf"^```{language}\n(.*?)^```$", text, flags=re.MULTILINE | re.DOTALL)
    return [(text.count("\n", 0, fence.start(1)) + 1, fence[1]) for fence in fences]


def test_table_is_what_there_is():
    text = PARTS.read_text(encoding="utf-8")
    assert with_table(text) == text, "the table is stale: run `python -m tests.test_readme`"


def test_readme_is_short():
    text = README.read_text(encoding="utf-8")
    assert len(text.encode()) <= 8000
    assert text.count("\n") <= 200


def test_readmes_speeds_are_those_of_the_whole_table():
    measured = {cells[0]: cells for cells in speeds(SPEED)}
    shown = list(speeds(README))
    assert len(shown) == 4
    for name, *cells in shown:
        assert cells == [cell.split(" ")[0] for cell in measured[name][1:7]]


def speeds(path: Path) -> Iterator[list[str]]:
    for line in path.read_text(encoding="utf-8").splitlines():
        if re.match(r"\| [\w-]+, \d+, \d+ \|", line):
            yield [cell.strip() for cell in line.strip("|").split("|")]


@pytest.mark.parametrize(
    "path",
    [page for page in PAGES if blocks(page, "python")],
    ids=lambda path: path.stem,
)
def test_programs_run_when_pasted(path, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    namespace = {"__name__": "__main__"}
    programs = blocks(path, "python")
    assert programs
    for line, program in programs:
        padded = "\n" * (line - 1) + program  # so that a traceback shows the document's lines
        exec(compile(padded, str(path), "exec"), namespace)
    plt.close("all")
    if path == README:
        check_that_dreg_beats_iwae(namespace)


def check_that_dreg_beats_iwae(namespace: dict[str, Any]) -> None:
    """README's example of two bounds shows what it is there for:
    the guide's ratio falls under one and rises under the other.
    """
    point = comparison.at_point(
        namespace["pair"],
        namespace["bounds"],
        namespace["few"],
        num_particles=(1, 64),
        draws=200,
        progress=False,
    )
    snr = point.dataset.snr.sel(part="guide")
    assert float(snr.sel(estimator="IWAE", K=64)) < 0.4 * float(snr.sel(estimator="IWAE", K=1))
    assert float(snr.sel(estimator="DReG", K=64)) > 1.3 * float(snr.sel(estimator="DReG", K=1))


def test_the_first_program_is_about_thirty_lines():
    (_, program), *_ = blocks(README, "python")
    lines = [line for line in program.splitlines() if line and "import " not in line]
    assert len(lines) <= 35


def commands(path: Path) -> list[str]:
    lines = [line for _, block in blocks(path, "sh") for line in block.splitlines()]
    return [line for line in lines if line.startswith("ppl-vae ")]


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """What the command lines find: README's first program's classes, a folder of images, a table."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [*sys.path])
    parsed = ast.parse(blocks(README, "python")[0][1])
    kept = [part for part in parsed.body if isinstance(part, ast.Import | ast.ImportFrom | ast.ClassDef)]
    Path("my_file.py").write_text(ast.unparse(ast.Module(kept, [])), encoding="utf-8")
    Path("my_images").mkdir()
    pixels = np.random.default_rng(0).integers(0, 256, (20, 40, 40, 3), dtype=np.uint8)
    for number, image in enumerate(pixels):
        Image.fromarray(image).save(f"my_images/{number}.png")
    alcohol = np.random.default_rng(1).normal(11, 1, 80)
    rows = [f"{each:.1f},{'red' if each > 11 else 'white'}" for each in alcohol]
    rows[::5] = [row.split(",")[0] + "," for row in rows[::5]]
    Path("wine.csv").write_text("\n".join(["alcohol,kind", *rows]) + "\n", encoding="utf-8")
    yield tmp_path
    sys.modules.pop("my_file", None)


# the last of an option counts: as many epochs as the shortest warm-up, and few particles to judge with
BUDGET = {
    "train": "--epochs 5 --evaluate.num_particles 100 --evaluate.num_simulations 40",
    "evaluate": "--evaluate.num_particles 200",
    "compare": "--epochs 1 --judge_particles 50 --at_point.draws 10",
}


def test_the_command_lines_work_in_order_on_a_small_budget(folder, capsys):
    lines = commands(COMMAND_LINE)
    assert len(lines) >= 8
    for line in lines:
        _, *words = shlex.split(line, comments=True)
        words += BUDGET.get(words[0], "").split()
        assert main(words) == OK, f"{line}\n{capsys.readouterr().err}"
        said = capsys.readouterr().err
        assert "Traceback" not in said, f"{line}\n{said}"
    assert len(np.load("samples.npz")["x"]) == 10_000
    for name in ("digits", "mine", "again", "bounds"):
        assert (folder / "runs" / name / "summary.txt").stat().st_size > 0
    assert len(list((folder / "runs").glob("my_images-*/figures/*.png"))) >= 5


def test_every_command_has_an_example():
    assert {line.split()[1] for line in commands(COMMAND_LINE)} == set(COMMANDS)


def test_make_targets_exist():
    targets = set(re.findall(r"^([a-z]+):", (ROOT / "Makefile").read_text(), flags=re.MULTILINE))
    texts = [path.read_text(encoding="utf-8") for path in PAGES]
    named = {name for text in texts for name in re.findall(r"(?:^|`)make ([a-z]+)", text, flags=re.MULTILINE)}
    assert {"demo", "test"} <= named <= targets


@pytest.mark.parametrize("path", [*PAGES, CHANGELOG], ids=lambda path: path.stem)
def test_links_and_named_files_exist(path):
    text = path.read_text(encoding="utf-8")
    links = [link for link in re.findall(r"\]\(([^)#]+)\)", text) if not link.startswith("http")]
    named = re.findall(r"`((?:ppl_vae|models|guides|tests|docs|notebooks|benchmarks)/[\w/.]*)`", text)
    missing = [link for link in links if not (path.parent / link).exists()]
    missing += [name for name in named if not (ROOT / name).exists()]
    assert not missing


def test_pictures_are_small():
    pictures = list((ROOT / "docs/images").glob("*.png"))
    assert pictures
    assert all(path.stat().st_size < 120_000 for path in pictures)
    text = "".join(page.read_text(encoding="utf-8") for page in PAGES)
    assert all(f"images/{path.name}" in text for path in pictures)


if __name__ == "__main__":
    PARTS.write_text(with_table(PARTS.read_text(encoding="utf-8")), encoding="utf-8")
