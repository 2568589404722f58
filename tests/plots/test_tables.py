"""Pictures of tables: the columns' names stand on the axes, and gaps are left out."""

from __future__ import annotations

import matplotlib

matplotlib.use("Agg")

import matplotlib.pyplot as plt
import numpy as np
import pytest
import torch

from ppl_vae import plots
from ppl_vae.queries import Traversal

NAMES = ("alcohol", "type", "quality")


@pytest.fixture(autouse=True)
def _no_figures_left():
    yield
    plt.close("all")


def table(rows: int = 20, columns: int = 3) -> torch.Tensor:
    x = torch.randn(rows, columns, generator=torch.Generator().manual_seed(0))
    x[::4, 1] = torch.nan
    return x


def labels(ticks) -> list[str]:
    return [tick.get_text() for tick in ticks]


def test_names_beside_heat_maps():
    x = table()
    ax = plots.vector_reconstructions(x, torch.zeros(20, 3), names=NAMES)
    (above,) = ax.child_axes
    assert labels(above.get_xticklabels()) == [*NAMES, *NAMES]
    assert np.isnan(ax.images[0].get_array().filled(np.nan)).any()
    moved = torch.randn(2, 4, 1, 3)
    draws = Traversal({}, {}, {"x": moved}, "z", (0, 1), torch.linspace(-1, 1, 4))
    assert labels(plots.vector_traversal(draws, names=NAMES).get_xticklabels()) == list(NAMES)
    many = plots.vector_reconstructions(torch.zeros(2, 90), torch.ones(2, 90), names=["a"] * 90)
    assert not many.child_axes


def test_names_of_two_columns():
    x = table(columns=2)
    for ax in (
        plots.cloud(x, torch.zeros(5, 2), names=NAMES[:2]),
        plots.vector_reconstructions(x, torch.zeros(20, 2), names=NAMES[:2]),
    ):
        assert (ax.get_xlabel(), ax.get_ylabel()) == NAMES[:2]
    assert plots.cloud(x[:, :1], torch.zeros(5, 1), names=["alcohol"]).get_xlabel() == "alcohol"
    assert plots.cloud(x, torch.zeros(5, 2)).get_xlabel() == "x[0]"


def test_a_cloud_is_of_complete_rows():
    x = table()
    ax = plots.cloud(x, torch.zeros(5, 3))
    assert [len(points.get_offsets()) for points in ax.collections] == [15, 5]
    with pytest.raises(ValueError, match="1 of 20 rows have no gap"):
        plots.cloud(
            torch.where(torch.arange(20)[:, None] == 3, 1.0, torch.nan).expand(20, 3), torch.zeros(5, 3)
        )
