"""The linear-Gaussian pair: its evidence and posterior are known,
so every bound can be held against the truth.
"""

from __future__ import annotations

import torch

from ppl_vae import Pair, guides, models, nets
from ppl_vae.nets.scale import inverse_positive_scale


def make_pair(latent_dim: int = 3, data_dim: int = 5, perturb: float = 0.0, seed: int = 1) -> Pair:
    """Probabilistic PCA with a full-rank guide at its exact posterior, or moved off it by `perturb`."""
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        model = models.LinearGaussian(latent_dim, data_dim, noise=0.7)
        model.bias.data.normal_()
        guide = guides.FullRank(nets.MLPEncoder((data_dim,), latent_dim, hidden=()))
        set_exact(guide, model)
        with torch.no_grad():
            for parameter in guide.parameters():
                parameter.add_(perturb * torch.randn_like(parameter))
    return Pair(model, guide)


def set_exact(guide: guides.FullRank, model: models.LinearGaussian) -> None:
    """Make the guide the model's exact posterior: a linear mean and a constant Cholesky factor."""
    latent_dim, data_dim = model.latent_dim, model.data_dim
    zero, unit = torch.zeros(1, data_dim), torch.eye(data_dim)
    with torch.no_grad():
        offset = model.posterior(zero).mean[0]
        slope = (model.posterior(unit).mean - offset).T
        cholesky = model.posterior(zero).scale_tril[0]
        head = guide.encoder.head
        rows, columns = torch.tril_indices(latent_dim, latent_dim, offset=-1)
        head.linear.weight.zero_()
        head.linear.weight[:latent_dim] = slope
        head.linear.bias[:latent_dim] = offset
        head.linear.bias[latent_dim:] = inverse_positive_scale(
            cholesky.diagonal(), head.min_scale, head.max_scale
        )
        guide.lower_weight.zero_()
        guide.lower_bias.copy_(cholesky[rows, columns] / cholesky.diagonal()[rows])
