"""The page of pythae's models: that each of them has a line, and no two the same.

`tests/test_readme.py` runs it.
"""

from __future__ import annotations

import ast
import re
from pathlib import Path

PAGE = (Path(__file__).parents[1] / "docs/pythae.md").read_text(encoding="utf-8")
NAMES = """AE VAE BetaVAE VAE_LinNF VAE_IAF DisentangledBetaVAE FactorVAE BetaTCVAE IWAE MIWAE PIWAE CIWAE
MSSSIM_VAE WAE_MMD INFOVAE_MMD VAMP SVAE PoincareVAE Adversarial_AE VAEGAN VQVAE HVAE RAE_GP RAE_L2 RHVAE
HRQVAE"""
MODELS = re.findall(r"\w+", NAMES)


def lines():
    """By model the code of its line."""
    (program,) = (each for each in re.findall(r"```python\n(.*?)```", PAGE, re.S) if "\nhere = {" in each)
    for statement in ast.parse(program).body:
        if isinstance(statement, ast.Assign) and ast.unparse(statement.targets[0]) == "here":
            found = ast.literal_eval(ast.unparse(_as_text(statement.value)))
    return found


def _as_text(table):
    values = [
        each if ast.unparse(each) == "None" else ast.Constant(ast.unparse(each)) for each in table.values
    ]
    return ast.Dict(table.keys, values)


def test_each_of_the_26_has_a_line():
    found = lines()
    assert sorted(found) == sorted(MODELS)
    assert len(MODELS) == 26
    assert [name for name, line in found.items() if line is None] == []


def test_no_two_lines_are_the_same():
    written = list(lines().values())
    assert len(set(written)) == len(written)
