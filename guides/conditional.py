"""The conditional guide: a diagonal normal whose parameters hang on the datum and on its label."""

from __future__ import annotations

import pyro
import pyro.distributions as dist
import torch
from torch import Tensor, nn

from ppl_vae.nets import Encoder
from ppl_vae.nets.known_labels import require_labels
from ppl_vae.nets.labels import one_hot


class Conditional(nn.Module):
    r"""A diagonal normal posterior given x and y, for `models.ConditionalVAE`.

    .. math:: q(z \mid x, y) = \mathcal{N}(\mathrm{loc}, \mathrm{diag}\,\mathrm{scale}^2), \qquad
        \mathrm{loc}, \mathrm{scale} = \mathrm{head}\bigl((1 + g_y) \odot \mathrm{trunk}(x) + b_y\bigr)

    The label scales and shifts the encoder's features (FiLM), so any encoder will do, dense or
    convolutional. g and b start at zero, where the guide is `guides.MeanField`.

    Args:
        encoder: its `trunk` maps x to features, its `head` the features to (loc, scale).
        num_classes: the number of labels.

    Raises:
        ValueError: in `forward`, while Pyro validates, for labels outside 0 ... num_classes - 1.

    Perez et al., FiLM: Visual Reasoning with a General Conditioning Layer, arXiv:1709.07871.
    """

    def __init__(self, encoder: Encoder, num_classes: int) -> None:
        super().__init__()
        self.encoder = encoder
        self.num_classes = num_classes
        self.gain = nn.Parameter(torch.zeros(num_classes, encoder.num_features))
        self.shift = nn.Parameter(torch.zeros(num_classes, encoder.num_features))

    def forward(self, x: Tensor, y: Tensor) -> Tensor:
        """Draw z for each of the len(x) data, given its label."""
        require_labels(y, self.num_classes)
        features = self.encoder.trunk(x)
        label = one_hot(y, self.num_classes, self.gain.dtype)
        loc, scale = self.encoder.head((1 + label @ self.gain) * features + label @ self.shift)
        with pyro.plate("data", len(x), dim=-1):
            return pyro.sample("z", dist.Normal(loc, scale).to_event(1))
