"""Glimpses: as torch samples a grid, and nothing else than a canvas and square glimpses."""

from __future__ import annotations

import pytest
import torch
from torch.nn.functional import affine_grid, grid_sample

from ppl_vae import nets

CANVAS, GLIMPSE = (2, 7, 10), (2, 5, 5)


def by_torch(image, size, x, y, shape):
    zero = torch.zeros_like(size)
    rows = [torch.stack([size, zero, x], -1), torch.stack([zero, size, y], -1)]
    grid = affine_grid(torch.stack(rows, 1), [len(image), *shape], align_corners=False)
    return grid_sample(image, grid, align_corners=False)


def test_it_is_what_torch_samples():
    torch.manual_seed(0)
    net = nets.SpatialTransformer(CANVAS, GLIMPSE, size=0.5, size_spread=0.4, place_spread=0.7)
    where = torch.randn(50, 3, dtype=torch.float64)
    size, (x, y) = 0.5 * (0.4 * where[:, 0]).exp(), (0.7 * where[:, 1:]).unbind(-1)
    canvas, glimpse = (torch.rand(50, *shape, dtype=torch.float64) for shape in (CANVAS, GLIMPSE))
    torch.testing.assert_close(net.look(canvas, where), by_torch(canvas, size, x, y, GLIMPSE))
    put = by_torch(glimpse, 1 / size, -x / size, -y / size, CANVAS)
    torch.testing.assert_close(net.place(glimpse, where), put)
    assert net.place(glimpse, where.expand(3, 4, 50, 3)).shape == (3, 4, 50, *CANVAS)


@pytest.mark.parametrize("glimpse", [(1, 5, 5), (2, 5, 4), (5, 5), (2, 3, 5, 5)])
def test_other_shapes_are_refused(glimpse):
    with pytest.raises(ValueError, match=r"square and of as many channels|sequence of positive"):
        nets.SpatialTransformer(CANVAS, glimpse)


def test_numbers_and_inputs_are_checked():
    with pytest.raises(ValueError, match="size_spread must be positive"):
        nets.SpatialTransformer(CANVAS, GLIMPSE, size_spread=0.0)
    net = nets.SpatialTransformer(CANVAS, GLIMPSE)
    with pytest.raises(ValueError, match=r"shape \(\*batch, 3\)"):
        net.look(torch.zeros(1, *CANVAS), torch.zeros(1, 4))
    with pytest.raises(ValueError, match="expects input of shape"):
        net.place(torch.zeros(1, *CANVAS), torch.zeros(1, 3))
