"""Pictures of calibration and of predictive checks."""

from __future__ import annotations

import matplotlib.pyplot as plt
import numpy as np
import pytest
import torch

from ppl_vae import Pair, evaluate, guides, models, nets, plots
from tests.evaluate.programs import stretched_pair


@pytest.fixture(autouse=True)
def _closed():
    torch.set_default_dtype(torch.float64)
    yield
    plt.close("all")


@pytest.mark.parametrize("stretch", [1.0, 0.5])
def test_curves_that_leave_the_band_are_named(stretch):
    pair = stretched_pair(stretch)
    pair.remember((torch.zeros(2, 5),))
    result = evaluate.calibration(pair, 300, 20)
    ax = plots.calibration(result)
    ax.figure.canvas.draw()
    named = [text.get_text() for text in ax.get_legend().get_texts()]
    assert named[0] == "95% band, all 4 curves"
    assert {name.split(":")[0] for name in named[1:]} == set(result.departs)
    for number in range(4):  # each curve is that of its ranks
        counts = torch.bincount(result.ranks[:, number], minlength=21).cumsum(0) / 300
        curve = counts - torch.arange(1, 22) / 21
        drawn = [line.get_ydata()[1:] for line in ax.lines if len(line.get_ydata()) == 22]
        assert any(abs(each - curve.numpy()).max() < 1e-9 for each in drawn)


def test_statistics_beside_replicates():
    pair = stretched_pair(1.0)
    check = evaluate.predictive_check(pair, torch.randn(30, 5), num_replicates=20)
    axes = plots.predictive_check(check)
    axes[0].figure.canvas.draw()
    assert [ax.get_title().split(",")[0] for ax in axes] == list(check.names)
    with pytest.raises(ValueError, match="6 axes are needed, got 1"):
        plots.predictive_check(check, [axes[0]])


def test_roc_curves_of_several_scores():
    pair = stretched_pair(1.0)
    x, labels = torch.cat([torch.randn(30, 5), 5 * torch.randn(20, 5)]), torch.arange(50) >= 30
    found = evaluate.anomaly(pair, x, "elbo", labels, num_particles=5)
    ax = plots.roc({"bound": found, "turned round": found.with_labels(~labels)})
    ax.figure.canvas.draw()
    named = [text.get_text() for text in ax.get_legend().get_texts()]
    assert named == [f"bound, {found.auroc:.3f}", f"turned round, {1 - found.auroc:.3f}"]
    for line, area in zip(ax.lines, (found.auroc, 1 - found.auroc)):
        assert abs(float(np.trapezoid(line.get_ydata(), line.get_xdata())) - area) < 1e-9
    with pytest.raises(ValueError, match="'elbo' has no labels"):
        plots.roc(evaluate.anomaly(pair, x, "elbo", num_particles=5))


def test_the_matrix_of_a_code_and_its_factors():
    factors = torch.stack([torch.arange(120) % 2, torch.arange(120) % 3], 1)
    pair = Pair(models.LinearGaussian(2, 2), guides.MeanField(nets.MLPEncoder((2,), 2, (4,))))
    result = evaluate.disentanglement(
        pair.double(), factors.double(), factors, names=("a", "b"), num_votes=20
    )
    for what, values in (("information", result.information), ("importance", result.dci.importance)):
        ax = plots.factors(result, what)
        ax.figure.canvas.draw()
        assert [label.get_text() for label in ax.get_xticklabels()] == ["a", "b"]
        assert [text.get_text() for text in ax.texts] == [f"{value:.2f}" for value in values.ravel()]
    with pytest.raises(ValueError, match="got 'all'"):
        plots.factors(result, "all")
