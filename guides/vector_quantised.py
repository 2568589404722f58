"""Guides of codes that stand for vectors: the nearest one without uncertainty, and level after level."""

from __future__ import annotations

import pyro
from torch import Tensor, nn

from ppl_vae.distributions.in_order import InOrder
from ppl_vae.distributions.nearest import Nearest, straight_through
from ppl_vae.guides.paths import Path, Paths
from ppl_vae.nets.contracts import LocScaleEncoder, latent_dim_of, require_latent_dim
from ppl_vae.nets.residual_codebook import ResidualCodebook


class VectorQuantised(nn.Module):
    r"""One-hot codes of the nearest vectors of a codebook: the VQ-VAE's, with all mass on them.

    .. math:: q(z \mid x) = \prod_n \mathbb{1}\Bigl[z_n = \mathrm{one\_hot}\bigl(\arg\min_k
        \|h_n - e_k\|\bigr)\Bigr], \qquad (h, \cdot) = \mathrm{encoder}(x)

    The model is `models.VAE` with a `nets.CodebookDecoder` of the same codebook and the prior
    `priors.Categorical(num_codes, C, learned=False)`. Under it the KL is num_codes log C, and the ELBO is
    log p(x, z) at the codes z, exactly: a lower bound on log p(x), which other codes do not enter, so
    that no number of particles raises it, and `evaluate.log_likelihood` says so. Train it under
    `estimators.MeanFieldELBO` with `kl=kl.Commitment()`. The encoder's gradient is the straight-through one
    (`distributions.nearest`), exact for more vectors than they have numbers; under `estimators.ELBO` the
    slope of a prior that is learned comes to it, too. Fit a prior over the codes afterwards by
    `pv.refit_prior`. A vector that is learned by gradient follows the bound, as a weight of the decoder,
    beside the commitment's own term; in the paper it follows that term alone.

    Args:
        encoder: a `nets.LocScaleEncoder`: maps x to (loc, scale), (*batch, num_codes * code_dim); scale is
            not used.
        codebook: a `nets.Codebook`.

    Raises:
        ValueError: for an encoder of no multiple of the codebook's code_dim.

    Van den Oord, Vinyals and Kavukcuoglu, Neural Discrete Representation Learning, arXiv:1711.00937.

    >>> import torch
    >>> from ppl_vae import nets
    >>> guide = VectorQuantised(nets.MLPEncoder((5,), latent_dim=6), nets.Codebook(8, 2))
    >>> guide(torch.zeros(4, 5)).shape
    torch.Size([4, 3, 8])
    """

    def __init__(self, encoder: nn.Module, codebook: nn.Module) -> None:
        super().__init__()
        self.encoder: LocScaleEncoder = encoder
        self.codebook = codebook
        width, code_dim = latent_dim_of(encoder), codebook.code_dim
        if width is not None and width % int(code_dim):  # type: ignore[arg-type]
            raise ValueError(
                f"the encoder's latent_dim, {width}, is no multiple of the codebook's code_dim={code_dim}: "
                "it gives the vectors of all codes side by side, num_codes * code_dim"
            )

    def forward(self, x: Tensor) -> Tensor:
        """Put z (num_codes, num_values) for each of the len(x) data where the encoder says."""
        book = self.codebook
        loc, _ = self.encoder(x)
        points = loc.unflatten(-1, (-1, book.code_dim))
        book.revive(points)  # type: ignore[operator]
        vectors: Tensor = book.values()  # type: ignore[operator]
        lift = straight_through(vectors.detach()) if points.requires_grad else None
        nearest = Nearest(points, vectors, lift)
        with pyro.plate("data", len(x), dim=-1):
            z: Tensor = pyro.sample("z", nearest.to_event(1))
        book.move(points, nearest.chosen)  # type: ignore[operator]
        return z


class ResidualQuantised(nn.Module):
    r"""One-hot codes that quantise a point level after level, each what is left over: the HRQ-VAE's.

    .. math:: q(z \mid x) = \prod_{l=1}^{L} \mathrm{Categorical}\Bigl(z_l; \mathrm{softmax}_c\Bigl(-\bigl\|h -
        \sum_{j<l} e_{z_j} - e_{lc}\bigr\|^2\Bigr)\Bigr), \qquad (h, \cdot) = \mathrm{encoder}(x)

    A density like any other: the nearer a level's vectors are to what is left, the surer it is. The model is
    `models.VAE` with a `nets.ResidualCodebookDecoder` of the same codebook and `priors.Categorical(L, C,
    learned=False)`, or `priors.Autoregressive(L, C)`, for the path through the levels. Paths as in
    `guides.Bernoulli`; with "none", the score function is left to the estimator, such as `estimators.VIMCO`.

    Args:
        encoder: a `nets.LocScaleEncoder`: maps x to (loc, scale), (*batch, code_dim); scale is not used.
        codebook: a `nets.ResidualCodebook`.
        path, temperature, cooling, coldest: as in `guides.Bernoulli`.

    Raises:
        ValueError: for another path, numbers out of range, and an encoder of another size.

    Hosking, Tang and Lapata, Hierarchical Sketch Induction for Paraphrase Generation, arXiv:2203.03463.

    >>> import torch
    >>> from ppl_vae import nets
    >>> book = nets.ResidualCodebook(num_levels=3, num_values=8, code_dim=2)
    >>> guide = ResidualQuantised(nets.MLPEncoder((5,), latent_dim=2), book)
    >>> guide(torch.zeros(4, 5)).shape
    torch.Size([4, 3, 8])
    """

    def __init__(
        self,
        encoder: nn.Module,
        codebook: nn.Module,
        path: Path = "straight-through gumbel-softmax",
        temperature: float = 1.0,
        cooling: float = 0.0,
        coldest: float = 0.5,
    ) -> None:
        super().__init__()
        self.encoder: LocScaleEncoder = encoder
        self.codebook: ResidualCodebook = codebook  # type: ignore[assignment]
        self.path = path
        self.temperature, self.cooling, self.coldest = temperature, cooling, coldest
        self.paths = Paths(path, temperature, cooling, coldest)
        require_latent_dim("encoder", encoder, self.codebook.code_dim)

    def forward(self, x: Tensor) -> Tensor:
        """Draw z (num_levels, num_values) for each of the len(x) data."""
        book = self.codebook
        points, _ = self.encoder(x)
        self.paths.cool()
        like = points.new_zeros(book.num_levels, book.num_values)
        codes = InOrder(lambda z: book.logits(points, z), like, points.shape[:-1], self.paths.one_hot)
        with pyro.plate("data", len(x), dim=-1):
            return pyro.sample("z", codes)
