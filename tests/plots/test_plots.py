"""Plots return Axes with the right pictures, lines and labels; they neither show nor train."""

from __future__ import annotations

import io
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import Any

import matplotlib

matplotlib.use("Agg")

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest
import torch
from matplotlib.axes import Axes
from matplotlib.colors import to_rgba
from sklearn.datasets import load_digits
from torch import Tensor

from ppl_vae import plots, queries
from ppl_vae.evaluate import Holes
from ppl_vae.queries import Draws, Traversal


@pytest.fixture(autouse=True)
def _no_figures_left() -> Iterator[None]:
    yield
    plt.close("all")


@pytest.fixture(scope="module")
def x() -> Tensor:
    # 16 x 16, since smaller pictures are smoothed
    small = torch.tensor(load_digits().images / 16.0, dtype=torch.float32).unsqueeze(1)
    return small.repeat_interleave(2, -2).repeat_interleave(2, -1)


def history() -> pd.DataFrame:
    epoch = np.arange(1, 31)
    bound = -20 - 500 * np.exp(-epoch.astype(float))
    frame = pd.DataFrame({"epoch": epoch, "step": 10 * epoch, "train_bound": bound, "train_elbo": bound - 1})
    frame["valid_elbo"] = np.where(epoch % 2 == 0, bound - 2, np.nan)
    frame["train_kl_z"] = 3.0
    return frame


def canvas(ax: Axes) -> np.ndarray:
    return np.asarray(ax.images[0].get_array())


def labels(ax: Axes, axis: str) -> list[str]:
    return [text.get_text() for text in getattr(ax, f"get_{axis}ticklabels")()]


def legend(ax: Axes) -> list[str]:
    return [text.get_text() for text in ax.get_legend().get_texts()]


def drawn(ax: Axes) -> None:
    """Layout happens while drawing, and so do its warnings, which are errors here."""
    ax.figure.savefig(io.BytesIO())


def test_tiny_images_are_smoothed_and_keep_their_range() -> None:
    tiny = torch.zeros(1, 1, 8, 8)
    tiny[..., 4:] = 1.0
    row = canvas(plots.images(tiny))[16, :, 0]
    assert row.shape == (32,)
    assert (np.diff(row) >= 0).all()
    assert ((row > 0.05) & (row < 0.95)).any()
    assert (row.min(), row.max()) == (0.0, 1.0)


def test_images_stand_in_a_grid_in_order(x: Tensor) -> None:
    ax = plots.images(x[:7], columns=3)
    drawn(ax)
    picture = canvas(ax)
    assert len(ax.images) == 1
    assert picture.shape == (3 * 34 - 2, 3 * 34 - 2, 3)  # 16x16 enlarged to 32x32, lines of 2 between
    fourth = picture[34 : 34 + 32 : 2, 0:32:2, 0]
    np.testing.assert_allclose(fourth, x[3, 0].numpy())
    assert (picture[68:, 34:] == 1).all()  # the places left over are blank
    assert labels(ax, "x") == labels(ax, "y") == []


def test_images_take_colour_arrays_and_other_ranges() -> None:
    colour = torch.rand(4, 3, 32, 32)
    picture = canvas(plots.images(colour))
    assert picture.shape == (66, 66, 3)
    np.testing.assert_allclose(picture[:32, :32], colour[0].permute(1, 2, 0).numpy())
    wide = canvas(plots.images(np.arange(256.0).reshape(1, 16, 16)))
    assert wide[0, 0, 0] == 0
    assert wide.max() == 1
    assert 0.49 < wide[15, -1, 0] < 0.51
    slight = canvas(plots.images(torch.tensor([[[-0.1, 0.5], [1.1, 1.0]]])))
    assert slight[0, 0, 0] == 0  # a Gaussian's mean just beyond [0, 1] is clipped, not stretched
    assert slight[0, -1, 0] == pytest.approx(0.5, abs=0.01)
    assert np.isfinite(canvas(plots.images(torch.full((1, 2, 2), float("nan"))))).all()


def test_samples_and_reconstructions_show_the_means(x: Tensor) -> None:
    draws = Draws({}, {"x": 0 * x[:12]}, {"x": x[:12]})
    np.testing.assert_array_equal(canvas(plots.samples(draws)), canvas(plots.images(x[:12])))
    ax = plots.reconstructions(1 - x[:12], draws, columns=5)
    drawn(ax)
    assert labels(ax, "y") == ["data", "reconstruction"]
    assert canvas(ax).shape == (66, 5 * 34 - 2, 3)
    np.testing.assert_allclose(canvas(ax)[34::2, 0:32:2, 0], x[0, 0].numpy())
    np.testing.assert_allclose(canvas(ax)[:32:2, 0:32:2, 0], 1 - x[0, 0].numpy())


def test_interpolation_has_a_row_for_each_pair(x: Tensor) -> None:
    means = x[:15].reshape(5, 3, 1, 16, 16)
    ax = plots.interpolation(Draws({}, {}, {"x": means}))
    drawn(ax)
    assert labels(ax, "x") == ["0", "0.25", "0.5", "0.75", "1"]
    assert ax.get_xlabel() == "t"
    np.testing.assert_allclose(canvas(ax)[68:100:2, 34:66:2, 0], means[1, 2, 0].numpy())


def test_traversal_is_labelled(x: Tensor) -> None:
    means = x[:24].reshape(2, 3, 4, 1, 16, 16)
    draws = Traversal({}, {}, {"x": means}, "z", (1, 7), torch.tensor([-3.0, 0.0, 3.0]))
    ax = plots.traversal(draws, datum=2)
    drawn(ax)
    assert labels(ax, "y") == ["z[1]", "z[7]"]
    assert labels(ax, "x") == ["-3", "0", "3"]
    np.testing.assert_allclose(canvas(ax)[34:66:2, 34:66:2, 0], means[1, 1, 2, 0].numpy())


def test_training_curves_draw_every_bound() -> None:
    frame = history()
    ax = plots.training_curves(frame)
    drawn(ax)
    assert legend(ax) == ["train bound", "train ELBO", "valid ELBO"]
    assert ax.get_xlabel() == "epoch"
    assert ax.get_ylabel() == "nats per datum"
    assert len(ax.lines[2].get_xdata()) == 15  # epochs without validation leave no hole
    assert ax.get_ylim()[0] > -100  # the first epochs, -200 and worse, do not flatten the rest
    same = frame.assign(train_bound=frame["train_elbo"]).drop(columns="epoch")
    ax = plots.training_curves(same)
    assert legend(ax) == ["train ELBO", "valid ELBO"]
    assert ax.get_xlabel() == "step"
    short = plots.training_curves(frame[:3])
    assert short.get_ylim()[0] < frame["train_bound"].min()


def test_latent_map_of_many_dimensions_shows_the_principal_plane() -> None:
    generator = np.random.default_rng(0)
    plane = generator.normal(size=(200, 2)) * [5.0, 3.0]
    rotation = np.linalg.qr(generator.normal(size=(6, 6)))[0]
    z = np.concatenate([plane - plane.mean(0), np.zeros((200, 4))], 1) @ rotation
    ax = plots.latent_map(torch.tensor(z))
    points = np.asarray(ax.collections[0].get_offsets())
    distances = [np.linalg.norm(p[:, None] - p, axis=-1) for p in (points, plane)]
    np.testing.assert_allclose(distances[0], distances[1], atol=1e-9)
    assert ax.get_xlabel().startswith("principal axis 1 (")
    shares = [int(text.split("(")[1].split("%")[0]) for text in (ax.get_xlabel(), ax.get_ylabel())]
    assert 99 <= sum(shares) <= 101
    assert shares[0] > shares[1]


def test_latent_map_colours_by_label() -> None:
    z = torch.randn(60, 2, generator=torch.Generator().manual_seed(0))
    ax = plots.latent_map(Draws({}, {}, {"z": z}), labels=torch.arange(60) % 3)
    drawn(ax)
    assert legend(ax) == ["0", "1", "2"]
    assert [len(group.get_offsets()) for group in ax.collections] == [20, 20, 20]
    assert (ax.get_xlabel(), ax.get_ylabel()) == ("z[0]", "z[1]")
    assert legend(plots.latent_map(z, ["cat", "dog"] * 30)) == ["cat", "dog"]
    continuous = plots.latent_map(z, torch.rand(60))
    assert continuous.get_legend() is None
    assert len(continuous.figure.axes) == 2  # the second one is the colour bar
    drawn(continuous)


def hole_result(count: int = 300) -> Holes:
    """Codes on the right, a prior over both sides; a prior's draw at z[0] < 0 is in a hole."""
    generator = torch.Generator().manual_seed(0)
    codes = torch.randn(count, 2, generator=generator) + torch.tensor([3.0, 0.0])
    draws = 3 * torch.randn(count, 2, generator=generator)
    axis = torch.linspace(-8, 8, 60)
    x, y = torch.meshgrid(axis, axis, indexing="ij")
    return Holes(
        site="z", dims=(1, 4), share=0.5, standard_error=0.01, num_data=count // 3, level=0.01,
        codes=codes, datum=torch.arange(count) % (count // 3), draws=draws, in_hole=draws[:, 0] < 0,
        grid=(axis, axis), log_prior=-(x**2 + y**2) / 18, log_aggregate=-((x - 3) ** 2 + y**2) / 2,
        threshold=-4.6,
    )  # fmt: skip


def test_holes_marks_the_draws_that_miss_the_codes() -> None:
    result = hole_result(900)
    ax = plots.holes(result)
    drawn(ax)
    assert legend(ax) == ["prior p(z)", "codes of data", "holds 99% of codes", "prior draw in a hole"]
    assert (ax.get_xlabel(), ax.get_ylabel()) == ("z[1]", "z[4]")
    assert ax.get_title() == "50.0% of the prior's draws fall in holes"
    crosses = np.asarray(ax.collections[-1].get_offsets())
    assert len(crosses) == int(result.in_hole[:500].sum())
    assert (crosses[:, 0] < 0).all()
    assert ax.get_xlim() == (-8, 8)
    labelled = plots.holes(result, labels=torch.arange(300) % 3)
    drawn(labelled)
    assert legend(labelled)[1:4] == ["0", "1", "2"]
    groups = [np.asarray(g.get_offsets()) for g in labelled.collections if len(g.get_offsets()) == 300]
    assert len(groups) == 3
    np.testing.assert_allclose(groups[1], result.codes[result.datum % 3 == 1])
    flat = plots.holes(replace(result, threshold=-1e9))
    assert "holds 99% of codes" not in legend(flat)
    drawn(flat)


def test_tsne_stands_side_by_side(x: Tensor) -> None:
    generator = torch.Generator().manual_seed(0)
    y = torch.arange(90) % 3
    clusters = 20 * torch.eye(3)[y] + torch.randn(90, 3, generator=generator)
    noise = torch.randn(90, 5, generator=generator)
    codes = {"clusters": Draws({}, {}, {"z": clusters}), "noise": noise}
    axes = plots.tsne(codes, y, perplexity=10)
    drawn(axes[0])
    assert [ax.get_title() for ax in axes] == ["clusters", "noise"]
    assert axes[0].get_legend() is None
    assert legend(axes[1]) == ["0", "1", "2"]
    spread = []
    for ax in axes:
        points = [np.asarray(group.get_offsets()) for group in ax.collections]
        assert [len(each) for each in points] == [30, 30, 30]
        within = np.mean([each.var(0).sum() for each in points])
        spread.append(within / np.concatenate(points).var(0).sum())
    assert spread[0] < 0.3 < 0.8 < spread[1]  # neighbours stay neighbours, and noise stays noise
    _, two = plt.subplots(1, 2)
    again = plots.tsne(codes, y, list(two), perplexity=10, limit=40)
    assert again == list(two)
    assert sum(len(group.get_offsets()) for group in two[0].collections) == 40


@dataclass(frozen=True)
class Result:
    k_hat: Tensor


def test_k_hat_says_how_many_are_bad() -> None:
    values = torch.tensor([0.1, 0.2, 0.3, 0.6, 0.65, 0.9, 1.2, float("nan"), 0.5, 0.7])
    ax = plots.k_hat(values)
    drawn(ax)
    assert legend(ax) == ["up to 0.5: 40.0%", "0.5 to 0.7: 30.0%", "above 0.7: 20.0%", "none: 10.0%"]
    assert [line.get_ydata()[0] for line in ax.lines] == [0.5, 0.7]
    assert sum(len(group.get_offsets()) for group in ax.collections) == 10
    assert to_rgba("C3") == tuple(ax.collections[2].get_facecolor()[0])
    assert legend(plots.k_hat(Result(values))) == legend(ax)


def everything(x: Tensor) -> list[Callable[[Axes | None], Axes]]:
    walk = Traversal({}, {}, {"x": x[:6].reshape(2, 3, 1, 1, 16, 16)}, "z", (0, 1), torch.arange(3.0))
    return [
        lambda ax: plots.images(x[:4], ax=ax),
        lambda ax: plots.samples(x[:4], ax=ax),
        lambda ax: plots.reconstructions(x[:4], x[:4], ax=ax),
        lambda ax: plots.interpolation(x[:4].reshape(2, 2, 1, 16, 16), ax=ax),
        lambda ax: plots.traversal(walk, ax=ax),
        lambda ax: plots.training_curves(history(), ax=ax),
        lambda ax: plots.latent_map(x.flatten(1)[:40], ax=ax),
        lambda ax: plots.k_hat(torch.rand(20), ax=ax),
        lambda ax: plots.holes(hole_result(), ax=ax),
    ]


def test_all_draw_on_axes_that_exist_and_show_nothing(x: Tensor, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(plt, "show", lambda *_, **__: pytest.fail("a plot was shown"))
    figure, axes = plt.subplots(3, 3, figsize=(14, 10), layout="constrained")
    for ax, plot in zip(axes.flat, everything(x), strict=True):
        assert plot(ax) is ax
        assert ax.has_data()
    drawn(axes[0, 0])
    assert plt.get_fignums() == [figure.number]
    for plot in everything(x):
        before = len(plt.get_fignums())
        assert isinstance(plot(None), Axes)
        assert len(plt.get_fignums()) == before + 1


MISTAKES: list[tuple[Callable[[Tensor], Any], str]] = [
    (lambda x: plots.images(x.flatten(1)), r"got shape \(1797, 256\): x.reshape"),
    (lambda x: plots.images(x.expand(-1, 2, 16, 16)), "C = 1 or 3"),
    (lambda x: plots.images(x[:0]), r"got shape \(0, 1, 16, 16\)"),
    (lambda x: plots.images(x, columns=0), "columns must be at least 1"),
    (lambda x: plots.reconstructions(x[:3], x[:2]), "different shapes"),
    (lambda x: plots.reconstructions(x[:3], Draws({}, {}, {"x": x, "y": x})), r"means for \['x', 'y'\]"),
    (lambda x: plots.training_curves(pd.DataFrame({"loss": [1.0]})), r"the columns are \['loss'\]"),
    (lambda x: plots.latent_map(x[:, 0]), r"\(N, d\) or \(N,\), got shape \(1797, 16, 16\)"),
    (lambda x: plots.latent_map(x.flatten(1), labels=[1, 2]), r"labels must be \(1797,\)"),
    (lambda x: plots.k_hat(x), r"k_hat must be \(N,\)"),
    (lambda x: plots.holes(hole_result(), labels=[1, 2]), r"labels must be \(100,\)"),
    (lambda x: plots.tsne({"a": x[:9].flatten(1), "b": x[:8].flatten(1)}), r"same N each, got shapes \{'a'"),
    (lambda x: plots.tsne({"a": x[:20].flatten(1)}), "perplexity=30 needs more than so many data, got 20"),
    (lambda x: plots.tsne({"a": x.flatten(1)}, labels=[1]), r"labels must be \(1797,\)"),
    (lambda x: plots.tsne({"a": x.flatten(1)}, axes=[]), "1 sets of codes need as many axes, got 0"),
]


@pytest.mark.parametrize(("mistake", "message"), MISTAKES)
def test_mistakes(x: Tensor, mistake: Callable[[Tensor], Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        mistake(x)
    assert not plt.get_fignums()


def test_rows_by_label(x: Tensor) -> None:
    ax = plots.by_label(x[:15], ["a", "b", "c"], columns=5)
    drawn(ax)
    assert labels(ax, "y") == ["a", "b", "c"]
    np.testing.assert_allclose(canvas(ax)[34:66:2, 0:32:2, 0], x[5, 0].numpy())
    with pytest.raises(ValueError, match="3 labels with 5 columns need 15 images, got 14"):
        plots.by_label(x[:14], ["a", "b", "c"], columns=5)


@pytest.mark.parametrize("kind", ["numbers", "strings"])
def test_many_classes_get_a_bar_of_classes(kind: str) -> None:
    classes = np.arange(0, 303, 3).repeat(3)
    ax = plots.latent_map(torch.randn(303, 2), classes if kind == "numbers" else classes.astype(str))
    drawn(ax)
    bar = ax.figure.axes[1]
    ticks = [text.get_text() for text in bar.get_yticklabels()]
    assert len(ticks) <= 13
    assert set(ticks) <= set(classes.astype(str))
    assert bar.get_ylabel() == "class, 101 of them"
    assert ax.get_legend() is None
    assert len(np.unique(ax.collections[0].get_facecolor(), axis=0)) == 101


def test_real_labels_keep_a_continuous_bar() -> None:
    ax = plots.latent_map(torch.randn(50, 2), torch.rand(50))
    assert ax.figure.axes[1].get_ylabel() == "label"


@pytest.mark.parametrize("shape", [(40,), (40, 1)])
def test_codes_of_one_dimension_get_a_histogram(shape: tuple[int, ...]) -> None:
    ax = plots.latent_map(torch.randn(shape), torch.arange(40) % 2)
    drawn(ax)
    assert legend(ax) == ["0", "1"]
    assert sum(patch.get_height() for patch in ax.patches) == 40


@pytest.mark.parametrize("span", [2.0, 3.0, 0.7])
def test_the_middle_of_a_traversal_is_zero(span: float) -> None:
    from tests.zoo import CASES

    case = CASES[0]
    pair, (batch,) = case.pair(), case.batch()
    pair.remember((batch,))
    draws = queries.traverse(pair, batch[:1], span=span, steps=7, seed=0)
    assert float(draws.positions[3]) == 0
    assert float(draws.positions[0]) == -float(draws.positions[6]) == pytest.approx(-span)
    assert labels(plots.traversal(draws), "x")[3] == "0"
    off = replace(draws, positions=draws.positions - 6e-8)
    assert labels(plots.traversal(off), "x")[3] == "0"


@pytest.mark.parametrize("size", [1, 2, 7])
def test_pictures_of_vectors(size: int) -> None:
    rows = torch.randn(30, size)
    ax = plots.cloud(rows, torch.randn(20, size))
    drawn(ax)
    assert legend(ax) == ["data", "samples"]
    ax = plots.vector_reconstructions(rows, rows + 0.1)
    drawn(ax)
    if size == 7:
        shown = np.asarray(ax.images[0].get_array())
        np.testing.assert_allclose(shown[:, :7], rows.numpy(), rtol=1e-6)
        np.testing.assert_allclose(shown[:, -7:], rows.numpy() + 0.1, rtol=1e-6)
    walk = Traversal({}, {}, {"x": torch.randn(2, 5, 1, size)}, "z", (0, 3), torch.linspace(-1, 1, 5))
    ax = plots.vector_traversal(walk)
    drawn(ax)
    names = labels(ax, "y") if size == 7 else legend(ax)[:2]
    assert names == ["z[0]", "z[3]"]
    with pytest.raises(ValueError, match="different s"):
        plots.cloud(rows, torch.randn(20, size + 1))
    with pytest.raises(ValueError, match="different shapes"):
        plots.vector_reconstructions(rows, rows[:3])
