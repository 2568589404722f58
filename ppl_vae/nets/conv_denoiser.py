"""A denoiser of square images, for diffusion models."""

from __future__ import annotations

from torch import Tensor, nn

from ppl_vae.nets.activations import Activation
from ppl_vae.nets.denoisers import mixed, of_levels
from ppl_vae.nets.initialisation import initialise
from ppl_vae.nets.residual import ResidualBlock
from ppl_vae.nets.shapes import OverImages, check_event, positive_size, positive_sizes


class ConvDenoiser(nn.Module):
    r"""A denoiser of square images: residual blocks at half the side, between two strided convolutions.

    .. math:: \hat\epsilon = \sigma z + \alpha \, \mathrm{net}(z, \mathrm{waves}(\gamma))

    The level is added to the features before every block, by a linear map of its waves. What the net sees of
    z at full size goes round the blocks to the last convolution.

    Shapes: see `Denoiser`. Its last layer starts at zero: see `mixed`.

    Args:
        shape: event shape of the data, (channels, side, side), side even.
        channels: of the blocks.
        num_blocks: residual blocks, of two 3 x 3 convolutions each.
        num_frequencies: waves of the level among the features.
        activation: see `MLP`.

    Raises:
        ValueError: for bad sizes or options, or an input of another event shape.

    >>> import torch
    >>> ConvDenoiser((1, 8, 8), channels=4)(torch.zeros(3, 5, 1, 8, 8), torch.zeros(3, 5)).shape
    torch.Size([3, 5, 1, 8, 8])
    """

    def __init__(
        self,
        shape: tuple[int, ...],
        channels: int = 32,
        num_blocks: int = 4,
        num_frequencies: int = 4,
        activation: Activation = "silu",
    ) -> None:
        super().__init__()
        self.shape = positive_sizes("shape", shape, minimum=3)
        if len(self.shape) != 3 or any(side % 2 for side in self.shape[1:]):
            raise ValueError(
                f"ConvDenoiser halves the side of images (channels, side, side), got {self.shape}"
            )
        self.channels = positive_size("channels", channels)
        self.num_blocks = positive_size("num_blocks", num_blocks)
        self.num_frequencies = positive_size("num_frequencies", num_frequencies)
        self.activation = activation
        first = nn.Conv2d(shape[0], channels, kernel_size=4, stride=2, padding=1)
        last = nn.ConvTranspose2d(channels, shape[0], kernel_size=4, stride=2, padding=1)
        around = nn.Conv2d(shape[0], shape[0], kernel_size=3, padding=1)
        initialise(first)
        for layer in (last, around):
            nn.init.zeros_(layer.weight)
            nn.init.zeros_(layer.bias)  # type: ignore[arg-type]
        small = (channels, shape[1] // 2, shape[2] // 2)
        self.first, self.last = OverImages(first, self.shape), OverImages(last, small)
        self.around = OverImages(around, self.shape)
        gain = num_blocks**-0.5
        blocks = [OverImages(ResidualBlock(channels, activation, gain), small) for _ in range(num_blocks)]
        self.blocks = nn.ModuleList(blocks)
        waves = 1 + 2 * num_frequencies
        self.levels = nn.ModuleList([nn.Linear(waves, channels) for _ in range(num_blocks)])

    def forward(self, z: Tensor, gamma: Tensor) -> Tensor:
        """The guess of the noise in z, (*batch, *shape)."""
        check_event(z, self.shape)
        gamma = gamma.expand(z.shape[:-3])
        waves = of_levels(gamma, self.num_frequencies)
        h = self.first(z)
        for block, level in zip(self.blocks, self.levels, strict=True):
            h = block(h + level(waves)[..., None, None])
        return mixed(z, gamma, self.last(h) + self.around(z))
