"""The site: public names are explained, pages are reached, the table of estimators is the code's."""

from __future__ import annotations

import importlib.util
import inspect
import re
from pathlib import Path
from typing import Any

import pytest
from torch import nn
from torch.distributions import Distribution

from ppl_vae import estimators
from ppl_vae.estimators import Facts

ROOT = Path(__file__).parents[1]
DOCS = ROOT / "docs"


def load_names() -> Any:
    spec = importlib.util.spec_from_file_location("names", DOCS / "names.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


names = load_names()
PUBLIC = names.public()


def test_every_public_name_is_explained():
    assert not [name for name, thing in PUBLIC.items() if not names.explanation(name, thing)]


@pytest.mark.parametrize("name", [name for name, thing in PUBLIC.items() if inspect.isclass(thing)])
def test_every_public_method_is_explained(name):
    """By itself, by a class of ours that it overrides, or, but for `forward`, by a library's."""
    bases = PUBLIC[name].__mro__
    ours = [base for base in bases if base.__module__.startswith("ppl_vae")]
    methods = {each for base in ours for each, thing in vars(base).items() if is_public_method(each, thing)}
    explained = {each for base in ours for each in vars(base) if getattr(vars(base)[each], "__doc__", None)}
    hooks = {each for each in methods if any(hasattr(base, each) for base in (nn.Module, Distribution))}
    assert not methods - explained - (hooks - {"forward"})


def is_public_method(name: str, thing: Any) -> bool:
    made = inspect.isroutine(thing) or inspect.isdatadescriptor(thing)
    return made and not name.startswith("_") and not inspect.ismemberdescriptor(thing)


def test_every_package_has_a_page_of_the_reference():
    pages = {path.stem: path.read_text() for path in (DOCS / "reference").glob("*.rst")}
    for package in names.packages():
        assert f".. automodule:: {package}\n" in pages[package.removeprefix("ppl_vae.")]


def entries(page: Path) -> set[Path]:
    """The pages that a page's tables of contents name."""
    found = set()
    for tree in re.findall(r"```\{toctree\}\n(.*?)```", page.read_text(encoding="utf-8"), flags=re.DOTALL):
        for line in tree.splitlines():
            if line and not line.startswith(":"):
                home = ROOT if line.startswith("/") else page.parent
                found |= {path for path in home.glob(line.strip("/") + ".*") if path.is_file()}
    return found - {page}


def test_every_page_is_reached():
    reached, new = set(), {DOCS / "index.md"}
    while new:
        reached |= new
        new = {each for page in new if page.suffix == ".md" for each in entries(page)} - reached
    pages = {path for kind in ("md", "rst") for path in DOCS.rglob(f"*.{kind}")}
    assert {*pages, *(ROOT / "notebooks").glob("*.ipynb")} <= reached


@pytest.mark.parametrize("page", sorted(DOCS.rglob("*.md")), ids=lambda page: str(page.relative_to(DOCS)))
def test_links_of_the_pages_exist(page):
    text = re.sub(r"```.*?```", "", page.read_text(encoding="utf-8"), flags=re.DOTALL)
    links = [link for link in re.findall(r"\]\(([^)#\s]+)[^)]*\)", text) if not link.startswith("http")]
    assert not [link for link in links if not (page.parent / link).exists()]


def rows() -> dict[str, tuple[str, str]]:
    """What the table of estimators says by estimator: its formulas and, together, its paper and facts."""
    text = (DOCS / "estimators.md").read_text(encoding="utf-8")
    found = re.findall(r"^\| `(.+?)`<br>(.*?) \| (.*) \| (.*) \|$", text, flags=re.MULTILINE)
    return {name: (formulas, f"{paper}; {facts}") for name, paper, formulas, facts in found}


def as_told(facts: Facts) -> str:
    paper = f"[{facts.paper}](https://arxiv.org/abs/{facts.paper})" if facts.paper else "ICLR 2018"
    side = {"lower": "lower bound", "upper": "upper bound", "neither": "no bound"}[facts.bound]
    sides = {"model": facts.unbiased_model, "guide": facts.unbiased_guide}
    unbiased = ", ".join(part for part, claimed in sides.items() if claimed) or "neither"
    follows = "" if facts.unbiased_guide else f"; guide: {facts.guide_follows}"
    needs = facts.needs.replace("bernoulli", "Bernoulli")
    return f"{paper}; {side}<br>unbiased: {unbiased}{follows}<br>sites: {needs}"


@pytest.mark.parametrize("call", rows())
def test_the_table_of_estimators_says_what_the_facts_say(call):
    formulas, told = rows()[call]
    estimator = eval(call, {**vars(estimators), "baseline": nn.Linear(1, 1), "control": nn.Linear(1, 1)})
    assert told == as_told(estimator.facts)
    bound, gradient = formulas.split("<br>")
    assert bound
    assert gradient


def test_the_table_of_estimators_has_all_of_them():
    things = {name: getattr(estimators, name) for name in estimators.__all__}
    ours = [
        name
        for name, thing in things.items()
        if inspect.isclass(thing)
        and issubclass(thing, estimators.Estimator)
        and not inspect.isabstract(thing)
    ]
    assert {call.partition("(")[0] for call in rows()} == set(ours)
