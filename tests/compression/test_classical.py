"""The classical coders: what cannot be compressed, what can, and what is an image."""

from __future__ import annotations

import bz2
import gzip
import math

import numpy as np
import pytest
import torch

from ppl_vae.compression.classical import sizes


def bits(*shape):
    return torch.bernoulli(torch.full(shape, 0.5), generator=torch.Generator().manual_seed(0))


def test_random_bits_take_their_own_number_and_little_more():
    x = bits(500, 1, 8, 8)
    found = sizes([x])
    assert set(found) == {"gzip", "bz2", "lzma", "PNG"}
    least = x.numel() / 8
    assert all(least <= size < 1.1 * least + 200 for size in found.values())
    packed = np.packbits(x.numpy().astype(np.uint8)).tobytes()
    assert found["gzip"] == len(gzip.compress(packed, 9))
    assert found["bz2"] <= len(bz2.compress(packed, 9))


def test_what_is_regular_takes_next_to_nothing():
    found = sizes([torch.zeros(500, 1, 8, 8)])
    assert all(size < 200 for size in found.values())


def test_grey_and_colour_images_are_pictures_and_tables_are_none():
    grey = (bits(50, 8, 8) * 7 + bits(50, 8, 8)) / 8
    assert "PNG" in sizes([grey])
    assert "PNG" in sizes([bits(50, 3, 8, 8)])
    assert "PNG" not in sizes([bits(50, 2, 8, 8)])
    assert "PNG" not in sizes([bits(50, 8)])
    assert "PNG" not in sizes([bits(50, 8, 8), bits(50, 8, 8)])


@pytest.mark.parametrize("values", [3, 300])
def test_more_values_take_a_byte_or_two(values):
    x = torch.randint(0, values, (4_000, 3), generator=torch.Generator().manual_seed(1)).float()
    least = x.numel() * math.log2(values) / 8
    assert all(least < size < 1.4 * least + 200 for size in sizes([x]).values())
    x[0, 0] = math.nan  # one value more
    assert all(least < size < 1.4 * least + 200 for size in sizes([x]).values())


def test_large_data_are_left_out():
    assert sizes([torch.zeros(1).expand(2**27 + 1)]) == {}
