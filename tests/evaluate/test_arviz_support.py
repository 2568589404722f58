from __future__ import annotations

import arviz
import numpy as np
import pytest
import xarray

from ppl_vae.evaluate import arviz_support


def log_weight(rows: int = 6, particles: int = 400) -> np.ndarray:
    generator = np.random.default_rng(0)
    scale = np.linspace(0.3, 6.0, rows)[:, None]
    return generator.standard_normal((rows, particles)) * scale - 300.0


def test_k_hat_equals_arviz_and_leaves_its_argument():
    weights = log_weight()
    before = weights.copy()
    result = arviz_support.k_hat(weights)
    assert np.array_equal(weights, before)
    if int(arviz.__version__.split(".")[0]) < 1:
        expected = arviz.psislw(weights)[1]
    else:
        from arviz_stats.base import array_stats

        expected = array_stats.psislw(-weights)[1]
    assert np.array_equal(result, expected)
    assert result[0] < 0.5
    assert result[-1] > 0.7


def test_k_hat_of_float32_is_that_of_the_same_numbers_in_float64():
    weights = log_weight().astype(np.float32)
    assert np.array_equal(arviz_support.k_hat(weights), arviz_support.k_hat(weights.astype(np.float64)))


@pytest.mark.parametrize("tail", [(5.0, 1.0), (-5.0, 1.0)])
def test_the_heavy_tail_is_the_right_one(tail):
    # exp(5 e) with exponential e is Pareto with shape 5; exp(-5 e) is bounded
    draws = np.random.default_rng(1).exponential(size=(1, 2000)) * tail[0]
    k = arviz_support.k_hat(draws)[0]
    assert (k > 3) if tail[0] > 0 else (k < 0.3)


def test_tails_that_cannot_be_fitted():
    generator = np.random.default_rng(2)
    equal = np.full(100, -80.0) + 1e-13 * generator.standard_normal(100)
    tied = np.log(np.where(generator.random(100) < 0.5, 1.0, 2.0))  # a discrete latent with two values
    single = np.where(np.arange(100) == 3, 0.0, -1e6)  # one weight carries everything
    none = np.full(100, -np.inf)
    k = arviz_support.k_hat(np.stack([equal, tied, none]))
    assert np.isnan(k[:2]).all()
    assert k[2] == np.inf
    few = np.where(np.arange(100) < 4, 0.1 * np.arange(100), -1e5)
    assert (arviz_support.k_hat(np.stack([single, few])) == np.inf).all()
    assert np.isnan(arviz_support.k_hat(log_weight(particles=29))).all()
    assert np.isfinite(arviz_support.k_hat(log_weight(particles=30))).all()


def test_inference_data_on_disk(tmp_path):
    dataset = xarray.Dataset({"z": ("draw", np.arange(3.0))})
    written = arviz_support.to_inference_data({"posterior": dataset})
    arviz_support.save_inference_data(written, tmp_path / "a.nc")
    read = arviz_support.load_inference_data(tmp_path / "a.nc")
    assert np.array_equal(read["posterior"]["z"].values, np.arange(3.0))
    (tmp_path / "a.nc").unlink()
    assert float(read["posterior"]["z"].sum()) == 3.0


def test_a_missing_or_foreign_file_is_a_clear_error(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"nothing\.nc"):
        arviz_support.load_inference_data(tmp_path / "nothing.nc")
    foreign = tmp_path / "foreign.nc"
    foreign.write_text("not netCDF")
    with pytest.raises(ValueError, match=r"foreign\.nc.* cannot be read as inference data"):
        arviz_support.load_inference_data(foreign)
