"""The PixelCNN: a raw output for every pixel from the pixels before it and a context, by convolutions."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn

from ppl_vae.nets.activations import Activation, activation_layer, check_activation
from ppl_vae.nets.causal_conv import CausalConv
from ppl_vae.nets.pixel_block import Apply, PixelBlock, check_sizes, folded, whole
from ppl_vae.nets.pixel_canvas import PixelCanvas
from ppl_vae.nets.scale import at_least_float32
from ppl_vae.nets.shapes import check_event, positive_size, positive_sizes


class PixelCNN(nn.Module):
    r"""The raw output of every pixel and colour from those before it, row by row, and from a context.

    .. math:: \mathrm{raw}_d = \mathrm{context}_d + f_d(x_{<d}, \mathrm{context})

    One stack of residual blocks looks at the rows above, one at the pixels to the left and at the first
    stack's, so that there is no blind spot (arXiv:1606.05328); the colours of a pixel come one after the
    other (arXiv:1601.06759). The context, a decoder's output, is added to the raw output and enters every
    block of both stacks. f starts at zero, so that training starts where it would without the net, and
    initial values chosen for the raw output hold.

    The first layer reaches `first_kernel // 2` pixels to each side, and block by block `kernel // 2` times
    the dilation more. What the net does not see of the image is left to the latents: a small reach keeps
    them in use, a whole one, such as dilations (1, 2, 4, 8, 12) for 28 x 28, may leave them nothing to say
    (posterior collapse).

    Shapes: x `(*batch, *shape)` and context `(*batch, context_channels, height, width)`, whose leading dims
    are broadcast, to `(*batch, raw_channels, height, width)`, float32 or wider.

    Args:
        shape: event shape of the data, (colours, height, width).
        raw_channels: channels of the raw output, `likelihood.raw_shape(shape)[0]`.
        channels: of the stacks; half as many within a block.
        dilations: one for each block.
        kernel: of the blocks, odd.
        first_kernel: of the first layer, odd.
        context_channels: of the context, `raw_channels` or more; by default as many. More tell the blocks
            what the raw output alone does not hold.
        activation: see `MLP`; "gated" is not taken.

    Raises:
        ValueError: for bad sizes, or x or a context of another shape.

    van den Oord et al., Conditional Image Generation with PixelCNN Decoders, arXiv:1606.05328; Gulrajani et
    al., PixelVAE, arXiv:1611.05013.

    >>> net = PixelCNN((1, 8, 8), raw_channels=1, channels=4, dilations=(1, 2))
    >>> net(torch.zeros(5, 1, 8, 8), torch.zeros(3, 5, 1, 8, 8)).shape
    torch.Size([3, 5, 1, 8, 8])
    """

    def __init__(
        self,
        shape: tuple[int, ...],
        raw_channels: int,
        channels: int = 32,
        dilations: tuple[int, ...] = (1, 1, 1, 1),
        kernel: int = 3,
        first_kernel: int = 5,
        context_channels: int | None = None,
        activation: Activation = "elu",
    ) -> None:
        super().__init__()
        check_activation(activation)
        if activation == "gated":
            raise ValueError("PixelCNN: activation 'gated' halves the channels: choose 'elu' or another one")
        self.shape = positive_sizes("shape", shape, minimum=3)
        if len(self.shape) != 3:
            raise ValueError(f"PixelCNN: shape must be (colours, height, width), got {self.shape}")
        colours = self.shape[0]
        self.raw_channels = positive_size("raw_channels", raw_channels)
        self.channels = positive_size("channels", channels)
        self.dilations = positive_sizes("dilations", dilations)
        self.kernel, self.first_kernel = kernel, first_kernel
        self.context_channels = context_channels
        self.activation = activation
        given = (
            raw_channels if context_channels is None else positive_size("context_channels", context_channels)
        )
        check_sizes(colours, raw_channels, channels, given, {"kernel": kernel, "first_kernel": first_kernel})
        self._given = given

        reach, gain = first_kernel // 2, max(1, len(dilations)) ** -0.5
        self.nonlinear = activation_layer(activation)
        self.first_above = CausalConv(
            colours, channels, above=reach, left=reach, right=reach, shift=1, activation=activation
        )
        self.first_link = CausalConv(channels, channels)
        self.first_left = CausalConv(colours, channels, left=reach, own="earlier", colours=colours)
        blocks = [PixelBlock(channels, colours, kernel // 2, each, activation, gain) for each in dilations]
        self.blocks = nn.ModuleList(blocks)
        widths = [channels, channels, *[block.width for block in blocks for _ in range(2)]]
        self.context = CausalConv(given, sum(widths))
        self._widths = widths
        self.last = CausalConv(channels, raw_channels, own="upto", colours=colours)
        nn.init.zeros_(self.last.weight)

    def forward(self, x: Tensor, context: Tensor) -> Tensor:
        """(*batch, raw_channels, height, width)."""
        check_event(x, self.shape)
        check_event(context, (self._given, *self.shape[1:]))
        lead = torch.broadcast_shapes(x.shape[:-3], context.shape[:-3])

        def together(part: Tensor) -> Tensor:
            event = part.shape[-3:]
            return part.expand(lead + event).reshape(math.prod(lead), *event)

        # what depends on x alone is made once for all particles
        above, left = (folded(layer, x) for layer in (self.first_above, self.first_left))
        first, *given = self.parts(folded(self.context, context))
        given = [together(part) for part in given]
        links = self.links(together(above + first), given, whole)
        raw = self.raw(together(left) + links[0], links[1:], whole)
        base = at_least_float32(context[..., : self.raw_channels, :, :])
        return base + at_least_float32(raw).view(*lead, *raw.shape[1:])

    def canvas(self, context: Tensor) -> PixelCanvas:
        """Empty images at contexts, (N, context_channels, height, width), to be drawn pixel by pixel."""
        check_event(context, (self._given, *self.shape[1:]))
        return PixelCanvas(self, context)

    def parts(self, given: Tensor) -> list[Tensor]:
        """The projected context as what each layer is given: the first two, then two for each block."""
        return list(given.split(self._widths, -3))

    def links(self, h: Tensor, given: Sequence[Tensor], apply: Apply) -> list[Tensor]:
        """What the stack of the rows above tells the other one at each layer."""
        found = [self.first_link(self.nonlinear(h)) + given[0]]
        for block, inside, beside in zip(self.blocks, given[1::2], given[2::2], strict=True):
            h, link = block.look_above(h, inside, beside, apply)  # type: ignore[operator]
            found.append(link)
        return found

    def raw(self, h: Tensor, links: Sequence[Tensor], apply: Apply) -> Tensor:
        """What is added to the context's raw output, from the stack of the pixels to the left."""
        for block, link in zip(self.blocks, links, strict=True):
            h = block.look_left(h, link, apply)  # type: ignore[operator]
        return self.last(self.nonlinear(h))  # type: ignore[no-any-return]
