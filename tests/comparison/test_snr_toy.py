"""The toy of Rainforth et al. 2018 at a small budget; `benchmarks/snr.py` runs it at the published one."""

from __future__ import annotations

import importlib.util
from pathlib import Path

import pytest

from ppl_vae import comparison
from ppl_vae.estimators import IWAE, DReG

PATH = Path(__file__).parents[2] / "benchmarks" / "snr.py"


@pytest.fixture(scope="module")
def toy():
    specification = importlib.util.spec_from_file_location("snr_toy", PATH)
    module = importlib.util.module_from_spec(specification)
    specification.loader.exec_module(module)
    return module


def test_the_pair_stands_beside_the_optimum_of_its_data(toy):
    pair, x = toy.make_pair(0)
    best = x.mean(0)
    for parameter, optimum in (
        (pair.model.loc, best),
        (pair.guide.offset, best / 2),
        (pair.guide.slope.diagonal(), 0.5),
    ):
        assert 0 < (parameter - optimum).abs().max() < 4.5 * toy.PERTURBATION
    assert x.shape == (1024, 20)


def test_signal_to_noise_ratios_go_with_k_as_published(toy):
    pair, x = toy.make_pair(0)
    options = {"reference_draws": 0, "progress": False}
    rising = comparison.at_point(pair, [DReG], x[:2], num_particles=[30, 100, 300], draws=600, **options)
    # the signal that vanishes is seen with many draws of few particles
    falling = comparison.at_point(pair, [IWAE], x[:2], num_particles=[2, 8, 32], draws=5000, **options)
    assert not rising.loops
    assert not falling.loops
    assert rising.slope("DReG", "model").slope == pytest.approx(0.5, abs=0.1)
    assert rising.slope("DReG", "guide").slope == pytest.approx(0.5, abs=0.1)
    assert falling.slope("IWAE", "model").slope == pytest.approx(0.5, abs=0.1)
    assert falling.slope("IWAE", "guide").slope == pytest.approx(-0.5, abs=0.25)  # known to 0.05 here
