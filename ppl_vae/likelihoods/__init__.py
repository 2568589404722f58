"""Likelihoods: from a decoder's raw output to a Pyro distribution over the data.

A likelihood is a module with one meaning, `likelihood(raw) -> p(x | z)`:

============================  ==============================  ===========================================
class                         data                            parameters per output
============================  ==============================  ===========================================
`Bernoulli`                   0 or 1                          1: logit
`ContinuousBernoulli`         [0, 1]                          1: logit
`Gaussian`, `Laplace`         real                            1: location; 2 with a scale per output
`Poisson`                     counts                          1: log-rate
`NegativeBinomial`            counts                          1: log-mean; 2 with a total count per output
`LogNormal`                   positive                        1: location; 2 with a scale per output
`Categorical`                 0, ..., num_classes - 1         num_classes: logits
`Ordinal`                     levels 0, ..., num_levels - 1   1: location
`DiscretisedLogisticMixture`  0, 1/255, ..., 1                3 times num_mixtures
`Mixed`                       rows of columns, NaN: missing   those of its parts
`Autoregressive`              that of another                 a net's context; pixel after pixel
`Strings`                     rows of symbols 1 ... A, 0 end  one condition a string
`TransformerStrings`          the same, by attention          one condition a string
`Incomplete`                  any of these, NaN: missing      those of the likelihood inside
============================  ==============================  ===========================================

What every one of them offers, and a user's own class needs, is the Protocol `Likelihood`. Half-precision
outputs are widened to float32 first; a mean outside the support is clamped into it.

To score single pixels (to mask some of them, say), take the distribution apart:
`d.base_dist.mask(observed).to_event(likelihood.event_dim)`.
"""

from ppl_vae.core.plain_numbers import take_plain_numbers
from ppl_vae.likelihoods.autoregressive import Autoregressive
from ppl_vae.likelihoods.bernoulli import Bernoulli
from ppl_vae.likelihoods.categorical import Categorical
from ppl_vae.likelihoods.continuous_bernoulli import ContinuousBernoulli
from ppl_vae.likelihoods.contract import Likelihood
from ppl_vae.likelihoods.gaussian import Gaussian
from ppl_vae.likelihoods.incomplete import Incomplete
from ppl_vae.likelihoods.laplace import Laplace
from ppl_vae.likelihoods.log_normal import LogNormal
from ppl_vae.likelihoods.logistic_mixture import DiscretisedLogisticMixture
from ppl_vae.likelihoods.mixed import Mixed
from ppl_vae.likelihoods.negative_binomial import NegativeBinomial
from ppl_vae.likelihoods.ordinal import Ordinal
from ppl_vae.likelihoods.poisson import Poisson
from ppl_vae.likelihoods.strings import Strings
from ppl_vae.likelihoods.transformer_strings import TransformerStrings

__all__ = [
    "Autoregressive",
    "Bernoulli",
    "Categorical",
    "ContinuousBernoulli",
    "DiscretisedLogisticMixture",
    "Gaussian",
    "Incomplete",
    "Laplace",
    "Likelihood",
    "LogNormal",
    "Mixed",
    "NegativeBinomial",
    "Ordinal",
    "Poisson",
    "Strings",
    "TransformerStrings",
]

take_plain_numbers(globals(), __all__)
