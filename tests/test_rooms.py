"""The house: which room may import which, as CONTRIBUTING.md says, and what the public face shows."""

from __future__ import annotations

import ast
import functools
import importlib
import os
import pkgutil
import re
from pathlib import Path

import pytest

import ppl_vae as pv

ROOT = Path(__file__).parents[1]
PACKAGE = ROOT / "ppl_vae"


def rooms():
    """What each room may import, in the order of CONTRIBUTING's table."""
    text = (ROOT / "CONTRIBUTING.md").read_text()
    rows = text[text.index("| room | what | imports |") :].splitlines()[2:]
    table = {}
    for row in rows:
        if not row.startswith("|"):
            break
        room, _, imports = (cell.strip() for cell in row.strip("|").split("|"))
        table[room.strip("`")] = {each.strip() for each in imports.split(",")} - {""}
    return table


ROOMS = rooms()


def files():
    """All of the package but its face; `models` and `guides` are links."""
    walk = os.walk(PACKAGE, followlinks=True)
    found = [Path(folder) / name for folder, _, names in walk for name in names if name.endswith(".py")]
    return sorted(path for path in found if path.parent != PACKAGE)


def room_of(module):
    """The room of a dotted module of ours: the longest that the table has."""
    parts = module.split(".")[1:]
    names = [".".join(parts[:length]) for length in range(len(parts), 0, -1)]
    return next((name for name in names if name in ROOMS), None)


def module_of(path):
    parts = path.relative_to(ROOT).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def imported_by(source, package):
    """The modules of ours that a text imports, wherever in it."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names if alias.name.startswith("ppl_vae"))
        elif isinstance(node, ast.ImportFrom):
            base = node.module or ""
            if node.level:
                base = ".".join(
                    [*package.split(".")[: len(package.split(".")) - node.level + 1], base]
                ).strip(".")
            if base.split(".")[0] == "ppl_vae":
                yield from (f"{base}.{alias.name}" for alias in node.names)


@functools.cache
def found():
    """What each room imports."""
    arrows = {room: set() for room in ROOMS}
    for path in files():
        module = module_of(path)
        package = module if path.name == "__init__.py" else module.rpartition(".")[0]
        room = room_of(module)
        for other in imported_by(path.read_text(), package):
            arrows[room].add(room_of(other) or other)
        arrows[room].discard(room)
    return arrows


def test_every_package_has_a_row_and_nothing_but_the_face_stands_loose():
    packages = {module_of(path) for path in files() if path.name == "__init__.py"}
    assert {room_of(package) for package in packages} == set(ROOMS)
    assert {f"ppl_vae.{room}" for room in ROOMS} <= packages
    assert [path.name for path in PACKAGE.glob("*.py")] == ["__init__.py"]


@pytest.mark.parametrize("room", ROOMS)
def test_a_room_imports_what_its_row_says(room):
    before = list(ROOMS)[: list(ROOMS).index(room)]
    assert ROOMS[room] <= set(before), "a room may import those above it in the table"
    assert found()[room] == ROOMS[room]


def test_imports_of_every_spelling_are_seen():
    source = "import ppl_vae.kl\ndef f():\n    from ..core import pair\n    from ppl_vae import nets, data\n"
    seen = [room_of(name) for name in imported_by(source, "ppl_vae.train")]
    assert sorted(seen) == ["core", "data", "kl", "nets"]


def modules():
    return ["ppl_vae", *(each.name for each in pkgutil.walk_packages(pv.__path__, "ppl_vae."))]


@pytest.mark.parametrize("name", [name for name in modules() if not name.endswith("__main__")])
def test_no_function_shadows_a_module(name):
    module = importlib.import_module(name)
    parent, _, leaf = name.rpartition(".")
    if parent:
        assert getattr(importlib.import_module(parent), leaf) is module


@pytest.mark.parametrize("name", sorted({*pv.__all__, "__version__"}))
def test_the_face_shows(name):
    assert getattr(pv, name) is not None
    assert name in dir(pv)


def test_what_the_face_does_not_have_is_named():
    with pytest.raises(AttributeError, match="module 'ppl_vae' has no attribute 'no_such'"):
        _ = pv.no_such


def test_the_spellings_of_earlier_versions_work():
    assert pv.compare.at_point is pv.comparison.at_point
    assert pv.compare.after_training is pv.comparison.after_training
    assert pv.isolation.ONE_THREAD is pv.ONE_THREAD


def functions_of(path):
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            yield node


def lines_of_code(node, lines):
    """The lines of a function but its docstring, comments and blank lines."""
    docstring = ast.get_docstring(node, clean=False) and node.body[0]
    skipped = set(range(docstring.lineno, docstring.end_lineno + 1)) if docstring else set()
    text = [
        lines[number - 1].strip()
        for number in range(node.lineno, node.end_lineno + 1)
        if number not in skipped
    ]
    return sum(bool(line) and not line.startswith("#") for line in text)


@pytest.mark.parametrize("path", files(), ids=lambda path: str(path.relative_to(PACKAGE)))
def test_files_and_functions_stay_small(path):
    lines = path.read_text().splitlines()
    assert len(lines) <= 300
    long = {node.name: size for node in functions_of(path) if (size := lines_of_code(node, lines)) > 60}
    assert not long


def test_the_median_file_is_short():
    sizes = sorted(len(path.read_text().splitlines()) for path in files())
    assert sizes[len(sizes) // 2] <= 100


def test_words_for_code_are_not_left_behind():
    """A path of ours that a text names is there."""
    for text in (ROOT / "README.md", ROOT / "CONTRIBUTING.md"):
        for named in re.findall(
            r"`((?:ppl_vae|models|guides|tests|benchmarks|notebooks)/[\w/.]+)`", text.read_text()
        ):
            assert (ROOT / named).exists(), f"{text.name} names {named}"
