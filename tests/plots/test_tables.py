"""Pictures of tables: the columns' names stand on the axes, and gaps are left out."""

from __future__ import annotations

import matplotlib

matplotlib.use("Agg")

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
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


def bars(panel) -> list[float]:
    return [bar.get_height() for bar in panel.patches]


def test_each_column_has_a_panel_in_the_users_units():
    heights, towns = [1.5, 1.9, np.nan, 1.7], ["Ulm", "Bonn", "Ulm", "Ulm"]
    x = pd.DataFrame({"height": heights, "town": pd.Categorical(towns), "visits": [0, 3, 1, 1]})
    drawn = pd.DataFrame({"height": [1.6, 1.8], "town": pd.Categorical(["Bonn", "Ulm"]), "visits": [1, 2]})
    ax = plots.columns(x, drawn)
    ax.figure.canvas.draw()
    assert [panel.get_title() for panel in ax.child_axes] == ["height  (25% missing)", "town", "visits"]
    height, town, visits = ax.child_axes
    assert 1.5 <= height.get_xlim()[0] + 0.1 < height.get_xlim()[1] < 2.1
    assert labels(town.get_xticklabels()) == ["Bonn", "Ulm"]
    assert bars(town) == [0.25, 0.75, 0.5, 0.5]
    # whole numbers are bars too, as long as they are few
    assert labels(visits.get_xticklabels()) == ["0", "1", "2", "3"]
    assert bars(visits) == [0.25, 0.5, 0.0, 0.25, 0.0, 0.5, 0.5, 0.0]
    assert labels(ax.get_legend().get_texts()) == ["data", "samples"]


def test_a_stray_sample_makes_no_bins_of_all_others():
    x = pd.DataFrame({"a": np.linspace(0.0, 1.0, 50)})
    ax = plots.columns(x, pd.DataFrame({"a": [*np.linspace(0.0, 1.0, 49), 1e6]}))
    assert ax.child_axes[0].get_xlim()[1] < 2


def test_columns_of_one_value_and_too_many_columns():
    constant = pd.DataFrame({"a": [0.5, 0.5], "b": [np.nan, np.nan]})
    plots.columns(constant, constant).figure.canvas.draw()
    many = pd.DataFrame({f"column {i}": [0.1 * i, 1.0] for i in range(40)})
    ax = plots.columns(many, many)
    assert len(ax.child_axes) == 30
    assert ax.get_legend().get_title().get_text() == "and 10 columns more"
    with pytest.raises(ValueError, match="x has the columns"):
        plots.columns(many, constant)
