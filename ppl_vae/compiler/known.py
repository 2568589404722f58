"""Known graphs: what was compiled before on this machine, found on the disk by its signature.

Inductor's own cache takes a traced graph, and the compiler imported, to find what it has made of it: most of
what a new process waits for. What was recorded says as much. So what Inductor made is kept here in two parts,
the Python that calls the kernels, without its imports, and where the kernels are.
"""

from __future__ import annotations

import ast
import json
import os
import re
import secrets
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor

from ppl_vae.compiler import native
from ppl_vae.compiler.inductor_private import Later
from ppl_vae.compiler.unit import Unit, load_kernels

_PRODUCT = re.compile(r"\bextern_kernels\.(\w+)\(")
_OPERATOR = re.compile(r"\b(?:torch\.ops|aten|inductor_ops|_quantized)(?:\.\w+)+")


class Signature(NamedTuple):
    """What a graph is known by.

    Attributes:
        key: of all that decides what is compiled; it is the name of a file.
        results: how many it gives.
        changed: the places of the inputs that it changes.
    """

    key: str
    results: int
    changed: tuple[int, ...]


def find(signature: Signature) -> Callable[..., Sequence[Tensor]] | None:
    """The graph of this signature, where one is kept and whole."""
    try:
        kept = json.loads(_path(signature).read_text())
        if native.library(kept["native"]) is None:
            return None
        namespace = {"Later": Later, **load_kernels(kept["library"], kept["kernels"])}
        exec(compile(kept["source"], f"<graph {signature.key[:8]}>", "exec"), namespace)
        for operator in set(_OPERATOR.findall(kept["source"])):  # some are made by an import
            eval(operator, namespace)
        call: Any = namespace["call"]
    except Exception:  # not there, damaged, or its kernels are gone: it is compiled again
        return None

    def run(*inputs: Tensor) -> Sequence[Tensor]:
        moved = [inputs[place] for place in signature.changed if not inputs[place].is_inference()]
        given = {*map(id, inputs)}
        results = [each.detach() if id(each) in given else each for each in call(list(inputs))]
        torch.autograd.graph.increment_version(moved)
        return results

    return run


def keep(signature: Signature, unit: Unit, count: int) -> None:
    """Keep what was made of a graph of so many inputs, unless it needs more than its kernels."""
    from torch._inductor.select_algorithm import extern_kernels

    source, library = _without_compiler(unit, (count, signature.results)), native.library()
    if source is None or library is None:
        return
    for name in set(_PRODUCT.findall(source)):  # where they are torch's functions, without Inductor's import
        if getattr(extern_kernels, name) is getattr(torch, name, None):
            source = source.replace(f"extern_kernels.{name}(", f"torch.{name}(")
    kept = {"source": source, "library": unit.library, "kernels": unit.kernels, "native": library._name}
    path = _path(signature)
    temporary = path.with_suffix(f".{secrets.token_hex(6)}")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        temporary.write_text(json.dumps(kept))
        os.replace(temporary, path)
    except OSError:  # a full disk: the next process compiles it again
        with suppress(OSError):  # where the folder is a file
            temporary.unlink(missing_ok=True)


def _without_compiler(unit: Unit, counts: tuple[int, int]) -> str | None:
    """The wrapper's source without what compiles its kernels, and with all else of Inductor's for later."""
    body: list[ast.stmt] = []
    for node in ast.parse(Path(unit.file).read_text()).body:
        text = ast.unparse(node)
        if isinstance(node, ast.Assign) and "async_compile." in text and text.split()[0] not in unit.kernels:
            return None  # made in another way
        if isinstance(node, ast.Assign) and isinstance(node.value, ast.Constant) and node.value.value is None:
            return None  # a constant of Inductor's own, which is put there afterwards
        if "async_compile" in text or isinstance(node, ast.If):
            continue
        if isinstance(node, ast.ImportFrom) and str(node.module).startswith("torch._inductor"):
            names = [(each.asname or each.name, each.name) for each in node.names]
            text = "\n".join(f"{ours} = Later.of({node.module!r}, {name!r})" for ours, name in names)
        if isinstance(node, ast.FunctionDef) and node.name == "call" and counts != _counts(node):
            return None  # inputs that are one, or results for another to finish
        body.extend(ast.parse(text).body)
    return ast.unparse(ast.Module(body, []))


def _counts(call: ast.FunctionDef) -> tuple[int, int]:
    """How many arguments a wrapper takes and how many results it gives."""
    taken = [
        node.targets[0] for node in ast.walk(call) if isinstance(node, ast.Assign) and _is(node.value, "args")
    ]
    given = [node.value for node in ast.walk(call) if isinstance(node, ast.Return)]
    sizes = [len(each.elts) if isinstance(each, ast.Tuple) else -1 for each in (*taken, *given)]
    if not taken:
        sizes = [0, *sizes]
    return (sizes[0], sizes[1]) if len(sizes) == 2 else (-1, -1)


def _is(node: ast.expr, name: str) -> bool:
    return isinstance(node, ast.Name) and node.id == name


def _path(signature: Signature) -> Path:
    from torch._inductor.runtime.cache_dir_utils import cache_dir

    return Path(cache_dir()) / "ppl_vae" / f"{signature.key}.json"
