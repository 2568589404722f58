"""README and CONTRIBUTING: their programs run, their commands parse, their table and links are true.

`python -m tests.test_readme` writes the table of README.md anew.
"""

from __future__ import annotations

import ast
import importlib
import inspect
import re
import shlex
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import matplotlib.pyplot as plt
import pytest
from torch import nn

import ppl_vae.kl
from ppl_vae import estimators, evaluate, guides, likelihoods, models, nets, plots, priors, queries
from ppl_vae.cli import COMMANDS, OK, main
from ppl_vae.data.named import NAMED
from ppl_vae.estimators import Estimator

ROOT = Path(__file__).parents[1]
README, CONTRIBUTING, CHANGELOG = (ROOT / f"{name}.md" for name in ("README", "CONTRIBUTING", "CHANGELOG"))
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


def kl_treatments() -> Lines:
    kl = ppl_vae.kl
    names = getattr(kl, "__all__", [name for name, thing in vars(kl).items() if inspect.isclass(thing)])
    for name in sorted(names, key=str.lower):
        thing = getattr(kl, name)
        own = inspect.isclass(thing) and thing.__module__.startswith("ppl_vae.kl")
        if own and hasattr(thing, "__dataclass_fields__"):
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
        "KL treatment (`kl`)": kl_treatments(),
        "data (`data.load`)": ((name, known.summary) for name, known in NAMED.items()),
        "question (`pv`)": functions(queries),
        "evaluation (`evaluate`)": functions(evaluate),
        "picture (`plots`)": functions(plots),
    }
    rows = ["| kind | name | what it is |", "|---|---|---|"]
    for kind, lines in kinds.items():
        for number, (name, line) in enumerate(lines):
            rows.append(f"| {kind if number == 0 else ''} | `{name}` | {line.replace('|', chr(92) + '|')} |")
    return "\n".join(rows)


def with_table(text: str) -> str:
    """README's text with a fresh table between its two marks."""
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
    text = README.read_text(encoding="utf-8")
    assert with_table(text) == text, "README's table is stale: run `python -m tests.test_readme`"


@pytest.mark.parametrize("path", [README, CONTRIBUTING], ids=lambda path: path.stem)
def test_programs_run_when_pasted(path, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    namespace = {"__name__": "__main__"}
    programs = blocks(path, "python")
    assert programs
    for line, program in programs:
        padded = "\n" * (line - 1) + program  # so that a traceback shows the document's lines
        exec(compile(padded, str(path), "exec"), namespace)
    plt.close("all")


def test_the_first_program_is_about_thirty_lines():
    (_, program), *_ = blocks(README, "python")
    lines = [line for line in program.splitlines() if line and "import " not in line]
    assert len(lines) <= 35


@pytest.fixture
def my_file(tmp_path, monkeypatch):
    """The classes of README's first program in a file of their own, as its commands name it."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    parsed = ast.parse(blocks(README, "python")[0][1])
    kept = [part for part in parsed.body if isinstance(part, ast.Import | ast.ImportFrom | ast.ClassDef)]
    Path("my_file.py").write_text(ast.unparse(ast.Module(kept, [])), encoding="utf-8")
    Path("runs/mine").mkdir(parents=True)
    Path("runs/mine/command.yaml").write_text("data: digits\nepochs: 3\n", encoding="utf-8")
    yield
    sys.modules.pop("my_file", None)


def commands() -> list[str]:
    lines = [
        line
        for path in (README, CONTRIBUTING)
        for _, block in blocks(path, "sh")
        for line in block.splitlines()
    ]
    return [line for line in lines if line.startswith("ppl-vae ")]


@pytest.mark.parametrize("line", commands())
def test_commands_parse(line, my_file, capsys):
    _, command, *words = shlex.split(line, comments=True)
    if command in ("list", "check"):
        assert main([command, *words]) == OK
    else:
        parser = importlib.import_module(f"ppl_vae.cli.command_{command}").parser()
        assert parser.read(words)


def test_every_command_has_an_example():
    assert {line.split()[1] for line in commands()} == set(COMMANDS), "README's section Command line"


def test_make_targets_exist():
    targets = set(re.findall(r"^([a-z]+):", (ROOT / "Makefile").read_text(), flags=re.MULTILINE))
    texts = [path.read_text(encoding="utf-8") for path in (README, CONTRIBUTING)]
    named = {name for text in texts for name in re.findall(r"(?:^|`)make ([a-z]+)", text, flags=re.MULTILINE)}
    assert {"demo", "test"} <= named <= targets


@pytest.mark.parametrize("path", [README, CONTRIBUTING, CHANGELOG], ids=lambda path: path.stem)
def test_links_and_named_files_exist(path):
    text = path.read_text(encoding="utf-8")
    links = [link for link in re.findall(r"\]\(([^)#]+)\)", text) if not link.startswith("http")]
    named = re.findall(r"`((?:ppl_vae|models|guides|tests|docs|notebooks|benchmarks)/[\w/.]*)`", text)
    missing = [name for name in [*links, *named] if not (ROOT / name).exists()]
    assert not missing


def test_pictures_are_small():
    pictures = list((ROOT / "docs/images").glob("*.png"))
    assert pictures
    assert all(path.stat().st_size < 120_000 for path in pictures)
    text = README.read_text(encoding="utf-8")
    assert all(f"docs/images/{path.name}" in text for path in pictures)


if __name__ == "__main__":
    README.write_text(with_table(README.read_text(encoding="utf-8")), encoding="utf-8")
