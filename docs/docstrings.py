"""From our docstrings to reST, and from the names in them to links."""

from __future__ import annotations

import inspect
import re
from typing import Any

import names
from docutils import nodes
from sphinx.addnodes import pending_xref
from sphinx.application import Sphinx
from sphinx.environment import BuildEnvironment
from torch import nn
from torch.distributions import Distribution

PUBLIC = names.public()
# what several packages hand out is explained once, in the first of them
HOME: dict[int, str] = {}
for _name, _thing in PUBLIC.items():
    HOME.setdefault(id(_thing), _name)
MADE = {
    f"{thing.__module__}.{thing.__qualname__}": HOME[id(thing)]
    for thing in PUBLIC.values()
    if inspect.isclass(thing) or inspect.isfunction(thing)
}
ROOMS = {name.split(".")[1] for name in PUBLIC if "." in name} | {"pv", "ppl_vae"}


def choose(app: Sphinx, what: str, name: str, thing: Any, skip: bool, options: Any) -> bool | None:
    """Leave out what has its home in another package, and methods that only a library explains."""
    if what == "module":
        package = names.package_of(app.env.current_document.docname)
        return package is not None and (is_constant(thing) or HOME.get(id(thing)) != f"{package}.{name}")
    of_library = any(hasattr(base, name) for base in (nn.Module, Distribution))
    return True if inspect.isroutine(thing) and not thing.__doc__ and of_library else None


def is_constant(thing: Any) -> bool:
    return not (inspect.isclass(thing) or inspect.isroutine(thing) or inspect.ismodule(thing))


def add_lines(app: Sphinx, what: str, name: str, thing: Any, options: Any, lines: list[str]) -> None:
    """Text as it is meant; below a package's docstring a table of its names, and its constants."""
    if what == "data":
        lines[:] = names.explanation(name, thing).splitlines()
    lines[:] = MARKUP.sub(as_meant, "\n".join(lines)).split("\n")
    if what == "module" and name in PUBLIC:
        known = [(each, HOME[id(PUBLIC[each])]) for each in PUBLIC if each.rpartition(".")[0] == name]
        rows = [home.removeprefix(f"{name}.") if home == each else f"~{home}" for each, home in known]
        lines += ["", ".. autosummary::", "   :nosignatures:", "", *[f"   {row}" for row in rows], ""]
        constants = [each for each, home in known if home == each and is_constant(PUBLIC[each])]
        for each in constants:  # automodule leaves out those that another file makes
            lines += [f".. autodata:: {each}", "   :no-value:", ""]


MARKUP = re.compile(
    r"""(?P<kept>\.\.\ math::(?:.+\n?)+ | `[^`]+`) (?P<letters>(?=\w))?  # a formula; code, then letters
    | (?<!\\)\| | (?<![\\*\w])\*(?=\w)  # a bar, and the star of *batch, in the text
    | (?:^|(?<=:\ ))\w(?=\.$)  # "K." is a sentence, and no item of a list""",
    re.VERBOSE | re.MULTILINE,
)


def as_meant(found: re.Match[str]) -> str:
    """The text of a docstring in reST: what looks like markup there is none."""
    if not found["kept"]:
        return "\\" + found[0]
    return found["kept"] + ("\\ " if found["letters"] is not None else "")


def unlink_words(app: Sphinx, doctree: nodes.document) -> None:
    """`data` is a plate, an argument or a package: only what has a dot or a capital is looked up."""
    for node in list(doctree.findall(pending_xref)):
        if node["reftype"] == "obj" and not re.match(r"[A-Z]|(\w+\.)+\w+$", node["reftarget"]):
            node.replace_self(node.children)


def resolve(
    app: Sphinx, env: BuildEnvironment, node: pending_xref, content: nodes.Element
) -> nodes.Element | None:
    """Link what is public under another name; None, a warning, for a name of ours that does not exist."""
    target = node.get("reftarget", "")
    first, _, rest = target.partition(".")
    if node.get("refdomain") != "py" or (node["reftype"] == "mod" and first != "ppl_vae"):
        return None
    if first in ROOMS:
        name = {"pv": f"ppl_vae.{rest}", "ppl_vae": target}.get(first, f"ppl_vae.{target}")
        if not names.exists(name):
            return None
    else:
        alike = {home for home in HOME.values() if home.rpartition(".")[2] == first}
        name = ".".join(filter(None, [*alike, rest])) if len(alike) == 1 else ""
    name = MADE.get(name) or HOME.get(id(PUBLIC.get(name))) or name
    python = env.domains.python_domain
    found = (
        python.resolve_xref(env, node["refdoc"], app.builder, "obj", name, node, content) if name else None
    )
    return found or content


def setup(app: Sphinx) -> dict[str, bool]:
    app.connect("autodoc-skip-member", choose)
    app.connect("autodoc-process-docstring", add_lines)
    app.connect("doctree-read", unlink_words)
    app.connect("missing-reference", resolve)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
