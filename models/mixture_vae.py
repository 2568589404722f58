"""The VAE of clusters: a mixture prior whose component is a site of its own."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pyro
import pyro.distributions as dist
from torch import Tensor, nn

from ppl_vae.nets.contracts import Decoder, latent_dim_of, require_latent_dim

if TYPE_CHECKING:  # the priors import more than a model needs
    from ppl_vae.priors import NormalMixture, Prior


class MixtureVAE(nn.Module):
    r"""Data in clusters: each datum is of a component y of the mixture that its latent z is drawn from.

    .. math:: y \sim \mathrm{Categorical}(\pi), \quad z \mid y \sim \mathcal{N}(m_y, \mathrm{diag}(s_y)^2),
        \quad x \mid z \sim \mathrm{likelihood}(\mathrm{decoder}(z))

    Under a guide of z alone, `guides.MeanField` or a flow, the component is summed over, exactly and under
    every estimator: the density is that of `models.VAE` with the same prior, and this is the VaDE, with
    p(y | z) in the place of its q(y | x). Under `guides.SemiSupervised`, which draws y and z given y, it is
    a GMVAE; labels that are known may be given to it. Either way `queries.class_probabilities(pair, x)`
    tells the clusters, `evaluate.clustering` holds them against known classes, and `pv.sample(pair, n,
    ...).latents["y"]` says which cluster a drawn datum is of.

    Clusters of pixels alone seldom come from random components: begin at a trained pair's codes,
    `prior.initialise(codes)`.

    Args:
        likelihood: a `likelihoods.Likelihood`, from the decoder's raw output to a distribution over x.
        decoder: a `nets.Decoder`: maps z, (*batch, latent_dim), to the raw output; any leading dims.
        prior: whose distribution is a `priors.NormalMixture`: `priors.MixtureOfGaussians`, or
            `priors.VampPrior`, whose components are the guide's posteriors at its pseudo-inputs.

    Raises:
        ValueError: when the decoder has another latent_dim than the prior; in `forward`, for a prior that is
            no mixture of normals.

    Jiang et al., Variational Deep Embedding, arXiv:1611.05148; Dilokthanakul et al., Deep Unsupervised
    Clustering with Gaussian Mixture Variational Autoencoders, arXiv:1611.02648.

    >>> from ppl_vae import Pair, guides, likelihoods, nets, priors, queries
    >>> decoder, encoder = nets.MLPDecoder(2, (1, 8, 8)), nets.MLPEncoder((1, 8, 8), 2)
    >>> model = MixtureVAE(likelihoods.Bernoulli(), decoder, priors.MixtureOfGaussians(2, num_components=10))
    >>> pair = Pair(model, guides.MeanField(encoder))
    >>> import torch
    >>> queries.class_probabilities(pair, torch.rand(5, 1, 8, 8).round()).shape
    torch.Size([5, 10])
    """

    def __init__(self, likelihood: nn.Module, decoder: nn.Module, prior: nn.Module) -> None:
        super().__init__()
        self.likelihood = likelihood
        self.decoder: Decoder = decoder
        self.prior: Prior = prior
        if (latent_dim := latent_dim_of(prior)) is not None:
            require_latent_dim("decoder", decoder, latent_dim)

    @property
    def latent_dim(self) -> int | None:
        """The prior's."""
        return latent_dim_of(self.prior)

    def forward(self, x: Tensor, y: Tensor | None = None) -> Any:
        """Draw y (), z (latent_dim,) and x for each of the len(x) data; labels are the guide's business."""
        mixture = self._mixture()
        with pyro.plate("data", len(x), dim=-1):
            y = pyro.sample("y", dist.Categorical(logits=mixture.log_weight))
            z = pyro.sample("z", dist.Normal(mixture.loc[y], mixture.scale[y]).to_event(1))
            return pyro.sample("x", self.likelihood(self.decoder(z)), obs=x)

    def _mixture(self) -> NormalMixture:
        mixture: Any = self.prior()
        if not all(hasattr(mixture, name) for name in ("log_weight", "loc", "scale")):
            raise ValueError(
                f"MixtureVAE: the prior {type(self.prior).__name__} gives a {type(mixture).__name__}, which "
                "has no components: take priors.MixtureOfGaussians, priors.VampPrior, or a module that gives "
                "a priors.NormalMixture"
            )
        found: NormalMixture = mixture
        return found
