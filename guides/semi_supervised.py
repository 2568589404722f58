"""The guide of the semi-supervised VAE: a classifier for the label where it is missing, and q(z | x, y)."""

from __future__ import annotations

import pyro
import pyro.distributions as dist
from pyro.distributions.util import is_validation_enabled
from torch import Tensor, nn

from ppl_vae.nets.contracts import LocScaleEncoder
from ppl_vae.nets.labels import beside, one_hot
from ppl_vae.nets.scale import at_least_float32

# its exponential is exactly 0 in float32 and float64, and 0 times it is 0 and not NaN, as for -inf
_IMPOSSIBLE = -1e4


class SemiSupervised(nn.Module):
    r"""A label from a classifier, and a style given datum and label.

    .. math:: q(y \mid x) = \mathrm{Categorical}(\mathrm{classifier}(x)), \qquad
        q(z \mid x, y) = \mathcal{N}\bigl(\mathrm{loc}, \mathrm{diag}\,\mathrm{scale}^2\bigr), \quad
        \mathrm{loc}, \mathrm{scale} = \mathrm{encoder}(\mathrm{features}(x), y)

    A label that is known has all of q(y). A missing one is -1, or NaN among labels that are floating
    point; without y all of them are missing. In training mode the objective gains

    .. math:: \alpha \log q(y_i \mid x_i) \quad \text{for each datum with a label,}

    without which known labels would not teach the classifier. It stands in the logs as `kl_classifier`,
    with its sign turned; in eval mode it is left out, so that what is evaluated is a bound.

    Args:
        classifier: maps x to logits, (*batch, num_classes).
        features: maps x to (*batch, F): the part of the encoder that no label enters, run once for each
            datum however many labels are summed over. `nets.shapes.Flatten(shape)` for none.
        encoder: a `nets.LocScaleEncoder`: maps (features, one-hot y), (*batch, F + num_classes), to
            (loc, scale).
        num_classes: C.
        alpha: the weight of the classification term.
        enumerate: ask `pyro.infer.TraceEnum_ELBO` to sum over y. False, or `estimators.EnumeratedELBO`,
            for estimators that do not know the mark.

    Raises:
        ValueError: for a negative alpha; for a label of C or more.

    Kingma et al., Semi-supervised Learning with Deep Generative Models, arXiv:1406.5298.
    """

    def __init__(
        self,
        classifier: nn.Module,
        features: nn.Module,
        encoder: nn.Module,
        num_classes: int,
        alpha: float = 1.0,
        enumerate: bool = True,
    ) -> None:
        super().__init__()
        if alpha < 0:
            raise ValueError(f"alpha must not be negative, got {alpha}")
        self.classifier = classifier
        self.features = features
        self.encoder: LocScaleEncoder = encoder
        self.num_classes = num_classes
        self.alpha = alpha
        self.enumerate = enumerate

    def forward(self, x: Tensor, y: Tensor | None = None) -> Tensor:
        """Draw y () and z for each of the len(x) data."""
        unknown = dist.Categorical(logits=at_least_float32(self.classifier(x)))
        with pyro.plate("data", len(x), dim=-1):
            label = unknown if y is None else self._with_known(unknown, y)
            infer = {"enumerate": "parallel"} if self.enumerate else {}
            drawn = pyro.sample("y", label, infer=infer)
            loc, scale = self.encoder(beside(self.features(x), drawn, self.num_classes))
            return pyro.sample("z", dist.Normal(loc, scale).to_event(1))

    def _with_known(self, unknown: dist.Categorical, y: Tensor) -> dist.Categorical:
        logits = unknown.logits
        if is_validation_enabled() and bool((y >= self.num_classes).any()):
            raise ValueError(f"label {y.max().item():g} is not below num_classes={self.num_classes}")
        indicators = one_hot(y, self.num_classes, logits.dtype)
        if self.training and self.alpha:
            # a guide's factor is subtracted from the bound; 0 for a missing label
            pyro.factor("classifier", -self.alpha * (indicators * logits).sum(-1), has_rsample=True)
        known = (y >= 0).unsqueeze(-1)
        return dist.Categorical(logits=logits.where(~known, (1 - indicators) * _IMPOSSIBLE))
