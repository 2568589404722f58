"""The examples in docstrings, of every module; `pytest --doctest-modules` cannot import behind symbolic
links.
"""

from __future__ import annotations

import doctest
import importlib
import pkgutil
import warnings

import pytest

import ppl_vae

MODULES = sorted(
    module.name
    for module in pkgutil.walk_packages(ppl_vae.__path__, "ppl_vae.")
    if not module.name.endswith(".__main__")
)


def test_all_packages_are_walked():
    assert {
        "ppl_vae.models.vae",
        "ppl_vae.guides.mean_field",
        "ppl_vae.nets.mlp",
        "ppl_vae.train.fitting",
    } <= set(MODULES)


@pytest.mark.parametrize("name", MODULES)
def test_examples(name):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        result = doctest.testmod(importlib.import_module(name))
    assert result.failed == 0, f"{result.failed} of {result.attempted} examples fail; see the output"
