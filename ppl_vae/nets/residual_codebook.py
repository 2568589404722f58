"""Codebooks one after the other: each quantises what those before it have left over."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional

from ppl_vae.nets.contracts import Decoder, output_bias_of, require_latent_dim
from ppl_vae.nets.shapes import positive_size


class ResidualCodebook(nn.Module):
    r"""L codebooks of C vectors of D numbers; the vectors that codes stand for are added up.

    .. math:: e(z) = \sum_{l=1}^{L} E_l^\top z_l, \qquad \mathrm{logits}_l(h, z_{<l}) = -\Bigl\| h -
        \sum_{j<l} E_j^\top z_j - e_{lc} \Bigr\|^2

    The first code is so the coarsest, and each further one refines it. The vectors start on spheres that
    shrink from level to level, and are learned by gradient. `guides.ResidualQuantised` and
    `ResidualCodebookDecoder` share one.

    Args:
        num_levels: L.
        num_values: C, of each level.
        code_dim: D.
        scale: the length of the first level's vectors at the start; about that of the encoder's points.
        decay: the length of a level's vectors, divided by that of the level before.

    Raises:
        ValueError: for sizes below 1, and a scale or decay that is not positive.

    Hosking, Tang and Lapata, Hierarchical Sketch Induction for Paraphrase Generation, arXiv:2203.03463.

    >>> book = ResidualCodebook(num_levels=3, num_values=8, code_dim=2)
    >>> book.logits(torch.zeros(5, 2), torch.zeros(5, 3, 8)).shape
    torch.Size([5, 3, 8])
    """

    def __init__(
        self, num_levels: int, num_values: int, code_dim: int, scale: float = 1.0, decay: float = 0.5
    ) -> None:
        super().__init__()
        self.num_levels = positive_size("num_levels", num_levels)
        self.num_values = positive_size("num_values", num_values)
        self.code_dim = positive_size("code_dim", code_dim)
        for name, value in (("scale", scale), ("decay", decay)):
            if not 0 < value < float("inf"):
                raise ValueError(f"ResidualCodebook: {name} must be a positive number, got {value!r}")
        self.scale, self.decay = scale, decay
        directions = functional.normalize(torch.randn(num_levels, num_values, code_dim), dim=-1)
        lengths = scale * decay ** torch.arange(num_levels)
        self.vectors = nn.Parameter(directions * lengths[:, None, None])

    def parts(self, codes: Tensor) -> Tensor:
        """The vector of each level's code, (\\*batch, L, D), from one-hot rows, (\\*batch, L, C)."""
        return torch.einsum("...lc,lcd->...ld", codes, self.vectors)

    def logits(self, points: Tensor, codes: Tensor) -> Tensor:
        """Of each level's values given the codes before it, (\\*batch, L, C), for points (\\*batch, D)."""
        parts = self.parts(codes)
        left = points.unsqueeze(-2) - (parts.cumsum(-2) - parts)
        # the square of what is left is the same for all values of a level
        return 2 * torch.einsum("...ld,lcd->...lc", left, self.vectors) - self.vectors.square().sum(-1)


class ResidualCodebookDecoder(nn.Module):
    """A decoder of one-hot codes side by side: their vectors are added up, then `decoder`.

    Args:
        codebook: a `ResidualCodebook`, that of the guide.
        decoder: a `nets.Decoder` of code_dim numbers.
        depth_dropout: in training mode, the probability that a level and all below it are left out, for each
            datum anew, so that the coarse codes alone say something; the training's bound is then that of a
            model which forgets. In eval mode there is none.

    Raises:
        ValueError: for a decoder of another size, or a probability outside [0, 1).

    >>> from ppl_vae import nets
    >>> decoder = ResidualCodebookDecoder(ResidualCodebook(3, 8, 2), nets.MLPDecoder(2, shape=(5,)))
    >>> decoder.latent_dim, decoder(torch.zeros(4, 24)).shape
    (24, torch.Size([4, 5]))
    """

    def __init__(self, codebook: nn.Module, decoder: nn.Module, depth_dropout: float = 0.0) -> None:
        super().__init__()
        if not 0 <= depth_dropout < 1:
            raise ValueError(f"depth_dropout must be in [0, 1), got {depth_dropout!r}")
        self.codebook: ResidualCodebook = codebook  # type: ignore[assignment]
        self.decoder: Decoder = decoder
        self.depth_dropout = depth_dropout
        require_latent_dim("decoder", decoder, self.codebook.code_dim)

    @property
    def latent_dim(self) -> int:
        """num_levels * num_values."""
        return self.codebook.num_levels * self.codebook.num_values

    @property
    def output_bias(self) -> Tensor | None:
        """The decoder's."""
        return output_bias_of(self.decoder)

    def forward(self, z: Tensor) -> Tensor:
        """The raw output at codes z, (\\*batch, num_levels * num_values)."""
        parts = self.codebook.parts(z.unflatten(-1, (self.codebook.num_levels, -1)))
        if self.training and self.depth_dropout:
            kept = torch.rand(parts.shape[:-1], device=parts.device) >= self.depth_dropout
            parts = parts * kept.cumprod(-1).unsqueeze(-1)
        return self.decoder(parts.sum(-2))
