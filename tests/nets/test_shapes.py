"""Flattening and folding: what is a view stays a view."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from ppl_vae.nets.shapes import Flatten, OverImages, image_sides


def test_flatten_is_a_view_of_any_batch() -> None:
    x = torch.randn(2, 3, 1, 4, 4)
    for part in (x, x[0], x[1, 2]):
        flat = Flatten((1, 4, 4))(part)
        assert flat.data_ptr() == part.data_ptr()
        assert flat.shape == (*part.shape[:-3], 16)


def test_flatten_leaves_vectors_alone() -> None:
    x = torch.randn(2, 3)
    assert Flatten((3,))(x) is x


@pytest.mark.parametrize("batch", [(), (3,), (2, 3), (2, 1, 3)])
def test_folding_around_image_layers_copies_nothing(batch) -> None:
    x = torch.randn(*batch, 3, 4, 4)
    assert OverImages(nn.Identity(), (3, 4, 4))(x).data_ptr() == x.data_ptr()


@pytest.mark.parametrize(
    ("side", "sides"),
    [
        (8, (8, 4)),
        (12, (12, 6, 3)),
        (16, (16, 8, 4)),
        (20, (20, 10, 5)),
        (28, (28, 14, 7)),
        (64, (64, 32, 16, 8, 4)),
    ],
)
def test_a_side_is_halved_while_even_and_above_four(side, sides) -> None:
    assert image_sides((1, side, side)) == sides


@pytest.mark.parametrize("shape", [(1, 27, 27), (1, 30, 30), (1, 4, 4), (1, 28, 32), (784,), (28, 28)])
def test_other_images_are_refused(shape) -> None:
    with pytest.raises(ValueError, match="at least 8 and divisible by 4, got shape") as raised:
        image_sides(shape)
    assert str(shape) in str(raised.value)
