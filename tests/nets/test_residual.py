"""The residual nets, beyond the contract and what they share with the convolutional ones."""

from __future__ import annotations

import math

import pytest
import torch

from ppl_vae.nets import ResidualDecoder, ResidualEncoder
from ppl_vae.nets.activations import ACTIVATIONS
from ppl_vae.nets.residual import ResidualBlock


@pytest.mark.parametrize("activation", ACTIVATIONS)
def test_a_block_adds_its_branch_to_its_input(activation) -> None:
    block = ResidualBlock(4, activation)
    h = torch.randn(2, 4, 6, 6)
    torch.testing.assert_close(block(h) - h, block.branch(h))
    block.branch[-1].weight.data.zero_()
    torch.testing.assert_close(block(h), h)


@pytest.mark.parametrize(
    "net",
    [ResidualEncoder((1, 28, 28), 3, 4, num_blocks=3), ResidualDecoder(3, (1, 28, 28), 4, num_blocks=3)],
)
def test_num_blocks_counts_the_blocks_of_each_of_two_stages(net) -> None:
    blocks = [module for module in net.modules() if isinstance(module, ResidualBlock)]
    assert len(blocks) == 6
    for block in blocks:
        bound = math.sqrt(6 / (2 * 9 * block.width)) / math.sqrt(6)
        assert 0.9 * bound < block.branch[-1].weight.abs().max() <= bound * (1 + 1e-6)


@pytest.mark.parametrize("num_blocks", [0, -1, 1.5])
def test_a_bad_number_of_blocks_is_refused(num_blocks) -> None:
    with pytest.raises(ValueError, match=f"num_blocks must be a positive integer, got {num_blocks}"):
        ResidualEncoder((1, 8, 8), 3, num_blocks=num_blocks)
    with pytest.raises(ValueError, match=f"num_blocks must be a positive integer, got {num_blocks}"):
        ResidualDecoder(3, (1, 8, 8), num_blocks=num_blocks)
