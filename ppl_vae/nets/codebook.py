"""Codebooks: vectors that stand for the values of a code, and a decoder that reads codes by them."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from ppl_vae.nets.contracts import Decoder, latent_dim_of, output_bias_of
from ppl_vae.nets.shapes import positive_size

_UNUSED = 1e-12  # below it a moving average has been forgotten


class Codebook(nn.Module):
    r"""C vectors of D numbers; `guides.VectorQuantised` and `CodebookDecoder` share one.

    Learned by gradient, as weights of the decoder; or by moving averages of what the guide's encoder gives,
    of h that are nearest to e_k in each batch, in training mode and before the optimizer's step:

    .. math:: N_k \leftarrow \gamma N_k + (1 - \gamma) n_k, \qquad
        m_k \leftarrow \gamma m_k + (1 - \gamma) \sum_{h \to k} h, \qquad e_k = m_k / N_k

    from N = 1 and m = e on. `counts` is N in both, and with m saved among the buffers.

    Args:
        num_values: C.
        code_dim: D.
        moving: by moving averages.
        decay: gamma.
        revive_below: in training mode, a vector whose share of the uses, N_k / sum N, falls below this
            times 1 / C goes to an h of the batch, drawn by torch's random numbers (so by a training's
            seed), and counts as used as the mean; 0 leaves the dead alone. 0.1 will do.

    Raises:
        ValueError: for numbers out of range.

    Van den Oord, Vinyals and Kavukcuoglu, Neural Discrete Representation Learning, arXiv:1711.00937, with
    appendix A.1; Dhariwal et al., Jukebox, arXiv:2005.00341, on dead codes.

    >>> Codebook(8, 2).vectors.shape
    torch.Size([8, 2])
    """

    vectors: Tensor
    counts: Tensor
    sums: Tensor

    def __init__(
        self,
        num_values: int,
        code_dim: int,
        moving: bool = False,
        decay: float = 0.99,
        revive_below: float = 0.0,
    ) -> None:
        super().__init__()
        self.num_values = positive_size("num_values", num_values)
        self.code_dim = positive_size("code_dim", code_dim)
        for name, value in (("decay", decay), ("revive_below", revive_below)):
            if not 0 <= value < 1:
                raise ValueError(f"{name} must be in [0, 1), got {value!r}")
        self.moving, self.decay, self.revive_below = moving, decay, revive_below
        vectors = torch.randn(num_values, code_dim)
        if moving:
            self.register_buffer("vectors", vectors)
            self.register_buffer("sums", vectors.clone())
        else:
            self.vectors = nn.Parameter(vectors)
        self.register_buffer("counts", torch.ones(num_values))

    def values(self) -> Tensor:
        """(C, D): the vectors of now; a copy where they move, since a gradient may still need these."""
        return self.vectors.clone() if self.moving else self.vectors

    @torch.no_grad()
    def revive(self, points: Tensor) -> None:
        """Put dead vectors at some of the points, (\\*batch, D), in training mode."""
        if not (self.training and self.revive_below):
            return
        rows = points.detach().reshape(-1, self.code_dim)
        chance = torch.rand(self.num_values, device=rows.device, dtype=rows.dtype)
        index = (chance * len(rows)).long().clamp_max(len(rows) - 1)
        mean = self.counts.mean()
        dead = (self.counts < self.revive_below * mean).unsqueeze(-1)
        self.vectors.copy_(torch.where(dead, rows[index], self.vectors))
        self.counts.copy_(torch.where(dead.squeeze(-1), mean, self.counts))
        if self.moving:
            self.sums.copy_(torch.where(dead, rows[index] * mean, self.sums))

    @torch.no_grad()
    def move(self, points: Tensor, chosen: Tensor) -> None:
        """Count the uses, (\\*batch, C) one-hot, and follow the points, (\\*batch, D), in training mode."""
        if not self.training:
            return
        uses = chosen.detach().reshape(-1, self.num_values)
        self.counts.copy_(self.decay * self.counts + (1 - self.decay) * uses.sum(0))
        if self.moving:
            sums = uses.mT @ points.detach().reshape(-1, self.code_dim)
            self.sums.copy_(self.decay * self.sums + (1 - self.decay) * sums)
            counts = self.counts.unsqueeze(-1)
            mean = self.sums / counts.clamp_min(_UNUSED)
            self.vectors.copy_(torch.where(counts > _UNUSED, mean, self.vectors))


class CodebookDecoder(nn.Module):
    """A decoder of one-hot codes side by side: each becomes its vector of the codebook, then `decoder`.

    Args:
        codebook: a `Codebook`, that of the guide.
        decoder: a `nets.Decoder` of num_codes * code_dim numbers.

    Raises:
        ValueError: for a decoder of no multiple of the codebook's code_dim.

    >>> from ppl_vae import nets
    >>> decoder = CodebookDecoder(Codebook(8, 2), nets.MLPDecoder(latent_dim=6, shape=(5,)))
    >>> decoder.latent_dim, decoder(torch.zeros(4, 24)).shape
    (24, torch.Size([4, 5]))
    """

    def __init__(self, codebook: nn.Module, decoder: nn.Module) -> None:
        super().__init__()
        self.codebook = codebook
        self.decoder: Decoder = decoder
        width, code_dim = latent_dim_of(decoder), codebook.code_dim
        if width is not None and width % int(code_dim):  # type: ignore[arg-type]
            raise ValueError(
                f"the decoder's latent_dim, {width}, is no multiple of the codebook's code_dim={code_dim}: "
                "it takes the vectors of all codes side by side, num_codes * code_dim"
            )

    @property
    def latent_dim(self) -> int:
        """num_codes * num_values; as other decoders, none where the decoder does not say its own."""
        width = latent_dim_of(self.decoder)
        if width is None:
            raise AttributeError("the decoder does not say its latent_dim")
        return width // int(self.codebook.code_dim) * int(self.codebook.num_values)  # type: ignore[arg-type]

    @property
    def output_bias(self) -> Tensor | None:
        """The decoder's."""
        return output_bias_of(self.decoder)

    def forward(self, z: Tensor) -> Tensor:
        """The raw output at codes z, (\\*batch, num_codes * num_values)."""
        vectors: Tensor = self.codebook.values()  # type: ignore[operator]
        codes = z.unflatten(-1, (-1, len(vectors))) @ vectors
        return self.decoder(codes.flatten(-2))
