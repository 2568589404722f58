"""What several test files share: the oracle pair, and quiet, repeatable random numbers.

Statistical tests compare at `SIGMAS` standard errors, in float64 and with fixed seeds. Two-sided,
one comparison fails by chance once in 150,000; the suite makes some hundreds of them.
"""

from __future__ import annotations

import gc
import os

os.environ.setdefault("MPLBACKEND", "Agg")

import pyro
import pytest
import torch

SIGMAS = 4.5


def pytest_collection_modifyitems(items):
    """The longest first: one that starts last would leave the other cores idle."""
    items.sort(key=lambda item: item.get_closest_marker("slow") is None)


def pytest_collection_finish():
    """What is imported by now stays, and need not be looked through at every collection of garbage."""
    gc.collect()
    gc.freeze()


@pytest.fixture(autouse=True)
def _repeatable():
    """Each test starts from the same seed, and leaves torch's and Pyro's global state as it was."""
    dtype = torch.get_default_dtype()
    pyro.set_rng_seed(0)
    pyro.clear_param_store()
    with pyro.validation_enabled(True):
        yield
    torch.set_default_dtype(dtype)


@pytest.fixture(scope="module", autouse=True)
def _quick_reports(request):
    """What `evaluate.summary` anneals where k-hat doubts it takes a sixtieth of its steps, but where that is
    tested: at full length it is nine tenths of the time of a report, which half of the command line's tests
    write. Of the rest most is pictures, which are small here.
    """
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("ppl_vae.cli.report.DPI", 40)
        if not request.module.__name__.startswith("tests.evaluate."):
            patch.setattr("ppl_vae.evaluate.shortfall.NUM_TEMPERATURES", 4)
            patch.setattr("ppl_vae.evaluate.shortfall.NUM_LEAPFROGS", 1)
        yield


@pytest.fixture
def double():
    """Float64 as torch's default dtype."""
    torch.set_default_dtype(torch.float64)
