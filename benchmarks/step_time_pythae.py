"""pythae's part of `step_time.py`, in an environment of its own: its VAE and IWAE with the same nets."""

from __future__ import annotations

import itertools
import sys
from typing import Any

import torch
from pythae.models import IWAE, VAE, IWAEConfig, VAEConfig
from pythae.models.base.base_utils import ModelOutput
from pythae.models.nn import BaseDecoder, BaseEncoder
from step_time_serve import PIXELS, SIDE, Point, Run, batches, rows, serve
from torch import nn

SMALL = SIDE // 4
STRIDED: dict[str, Any] = {"kernel_size": 4, "stride": 2, "padding": 1}


def layers(*sizes: int, activation: type[nn.Module] = nn.Tanh) -> list[nn.Module]:
    """Linear layers, each with its activation."""
    parts: list[nn.Module] = []
    for inputs, outputs in itertools.pairwise(sizes):
        parts += [nn.Linear(inputs, outputs), activation()]
    return parts


class Encoder(BaseEncoder):
    def __init__(self, point: Point) -> None:
        super().__init__()
        if point["kind"] == "dense":
            trunk, width = layers(PIXELS, *point["hidden"]), point["hidden"][-1]
        else:
            width = 256
            trunk = [nn.Unflatten(-1, (1, SIDE, SIDE)), nn.Conv2d(1, 32, **STRIDED), nn.ReLU()]
            trunk += [nn.Conv2d(32, 64, **STRIDED), nn.ReLU(), nn.Flatten()]
            trunk += layers(64 * SMALL**2, width, activation=nn.ReLU)
        self.trunk = nn.Sequential(*trunk)
        self.embedding = nn.Linear(width, point["latent_dim"])
        self.log_covariance = nn.Linear(width, point["latent_dim"])

    def forward(self, x: Any) -> Any:
        features = self.trunk(x)
        return ModelOutput(embedding=self.embedding(features), log_covariance=self.log_covariance(features))


class Decoder(BaseDecoder):
    def __init__(self, point: Point) -> None:
        super().__init__()
        latent_dim = point["latent_dim"]
        if point["kind"] == "dense":
            net = [*layers(latent_dim, *point["hidden"]), nn.Linear(point["hidden"][-1], PIXELS)]
        else:
            net = layers(latent_dim, 256, 64 * SMALL**2, activation=nn.ReLU)
            net += [nn.Unflatten(-1, (64, SMALL, SMALL)), nn.ConvTranspose2d(64, 32, **STRIDED), nn.ReLU()]
            net += [nn.ConvTranspose2d(32, 1, **STRIDED), nn.Flatten()]
        self.net = nn.Sequential(*net, nn.Sigmoid())

    def forward(self, z: Any) -> Any:
        return ModelOutput(reconstruction=self.net(z))


def make(point: Point) -> Run:
    torch.manual_seed(0)
    options = {
        "input_dim": (PIXELS,),
        "latent_dim": point["latent_dim"],
        "reconstruction_loss": "bce",
    }
    encoder, decoder = Encoder(point), Decoder(point)
    if point["num_particles"] == 1:
        model = VAE(VAEConfig(**options), encoder, decoder)
    else:
        model = IWAE(IWAEConfig(number_samples=point["num_particles"], **options), encoder, decoder)
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-3)
    pixels, following = torch.from_numpy(rows()), batches(point["batch"])
    model.train()

    def run() -> float:
        means = pixels[torch.from_numpy(following())].float() / 255
        x = (torch.rand_like(means) < means).float()
        # as in its trainer's step
        optimizer.zero_grad()
        loss = model({"data": x}).loss
        loss.backward()
        optimizer.step()
        return loss.item()

    return run


if __name__ == "__main__":
    torch.set_num_threads(int(sys.argv[2]))
    serve(make)
