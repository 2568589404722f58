"""Features of data: of a network of the user's, or of a small classifier that is trained here."""

from __future__ import annotations

import hashlib
import math
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from ppl_vae.core.isolation import eval_mode

_HIDDEN, _EPOCHS, _BATCH, _RATE = (256, 64), 15, 100, 1e-3
_RUN = 1000  # data at a time


class SmallClassifier(nn.Module):
    """Two dense layers under the logits; its features are what the second one gives.

    Args:
        shape: of a datum.
        num_classes: of its labels.
    """

    def __init__(self, shape: tuple[int, ...], num_classes: int) -> None:
        super().__init__()
        first, second = _HIDDEN
        self.features = nn.Sequential(
            nn.Flatten(), nn.Linear(math.prod(shape), first), nn.ReLU(), nn.Linear(first, second), nn.ReLU()
        )
        self.logits = nn.Linear(second, num_classes)

    def forward(self, x: Tensor) -> Tensor:
        """(n, 64) features of (n, *shape) data."""
        features: Tensor = self.features(x)
        return features


def train_classifier(x: Tensor, y: Tensor) -> tuple[SmallClassifier, float]:
    """A classifier of data (N, *shape) by labels (N,), and its accuracy on a tenth that it has not seen.

    It is trained on the rest with torch's current random numbers: within `isolation.questioning` the same
    seed gives the same features on the same machine.

    Raises:
        ValueError: fewer than two classes, or than 20 data.
    """
    classes, target = y.unique(return_inverse=True)
    if len(classes) < 2 or len(x) < 20:
        raise ValueError(
            f"a classifier needs two classes and 20 data, got {len(classes)} and {len(x)}: name a network, "
            f"features=..., such as torch.nn.Flatten() for the values themselves"
        )
    with torch.enable_grad():
        net = SmallClassifier(tuple(x.shape[1:]), len(classes)).to(x)
        optimizer = torch.optim.Adam(net.parameters(), lr=_RATE)
        held, seen = torch.randperm(len(x)).tensor_split([len(x) // 10])
        for _ in range(_EPOCHS):
            for index in seen[torch.randperm(len(seen))].split(_BATCH):
                loss = functional.cross_entropy(net.logits(net(x[index])), target[index])
                optimizer.zero_grad()
                loss.backward()
                optimizer.step()
    right = net.logits(net(x[held])).argmax(1) == target[held]
    return net.requires_grad_(False), float(right.double().mean())


@torch.no_grad()
def features_of(network: Any, x: Tensor) -> Tensor:
    """(N, F) float32 features on the host, of a network in eval mode, `_RUN` data at a time.

    Raises:
        ValueError: features that are no finite numbers for each datum.
    """
    if isinstance(network, nn.Module):
        x = x.to(next((each.device for each in network.parameters()), x.device))
    with eval_mode(*[network] * isinstance(network, nn.Module)):
        parts = [torch.as_tensor(network(part)).detach().cpu() for part in x.split(_RUN)]
    if any(not part.dim() or len(part) != len(own) for part, own in zip(parts, x.split(_RUN))):
        raise ValueError(f"features must give (n, F) for n data, got shape {tuple(parts[0].shape)}")
    found = torch.cat(parts).reshape(len(x), -1).float()
    if not bool(found.isfinite().all()):
        raise ValueError("the features are not finite: look for NaN in the data, or in the network")
    return found


def hash_of(network: Any) -> str:
    """What names a network: a hash of its text and of every parameter and buffer; of a function, its name.

    >>> hash_of(nn.Linear(2, 3)) != hash_of(nn.Linear(2, 3)), hash_of(nn.Flatten()) == hash_of(nn.Flatten())
    (True, True)
    """
    if not isinstance(network, nn.Module):
        return str(getattr(network, "__name__", type(network).__name__))
    found = hashlib.sha256(repr(network).encode())
    for name, tensor in sorted(network.state_dict().items()):
        found.update(f"{name} {tuple(tensor.shape)} {tensor.dtype}".encode())
        found.update(tensor.detach().cpu().contiguous().flatten().view(torch.uint8).numpy().tobytes())
    return found.hexdigest()[:16]
