"""The encoder with a trunk of the user's."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from ppl_vae.nets import Encoder


def test_the_range_of_the_scale_reaches_the_head() -> None:
    encoder = Encoder(nn.Identity(), 4, 2, min_scale=0.1, max_scale=3.0)
    _, scale = encoder(1e4 * torch.randn(50, 4))
    torch.testing.assert_close(scale.aminmax(), torch.return_types.aminmax(torch.tensor([0.1, 3.0])))


def test_a_trunk_of_another_width_names_the_fix() -> None:
    encoder = Encoder(nn.Linear(6, 5), num_features=4, latent_dim=2)
    with pytest.raises(ValueError, match=r"\(\*batch, 4\), got \(3, 5\).*num_features=5"):
        encoder(torch.zeros(3, 6))


@pytest.mark.parametrize("sizes", [(0, 2), (4, 0), (4, -1), (4.0, 2)])
def test_bad_sizes_are_refused(sizes) -> None:
    with pytest.raises(ValueError, match="must be a positive integer, got"):
        Encoder(nn.Identity(), *sizes)
