"""The contenders of `step_time.py` that live in this environment: ours, stock Pyro's SVI,
hand-written PyTorch.
"""

from __future__ import annotations

import itertools
import math
import sys
from typing import Any

import pyro
import pyro.distributions as dist
import torch
from pyro.infer import SVI, RenyiELBO, Trace_ELBO
from step_time_serve import PIXELS, SIDE, Point, Run, batches, rows, serve
from torch import Tensor, nn
from torch.nn import functional

import ppl_vae as pv
from ppl_vae import data, estimators, guides, likelihoods, models, nets
from ppl_vae.train.step import Step

EVENTS = {"dense": (PIXELS,), "two layers": (PIXELS,), "convolutional": (1, SIDE, SIDE)}


class TwoLayerModel(nn.Module):
    """Two stochastic layers, z2 -> z1 -> x, as a user writes them."""

    def __init__(self, latent_dims: tuple[int, int], hidden: tuple[int, int]) -> None:
        super().__init__()
        self.latent_dims = latent_dims
        below, above = hidden
        self.middle = nets.MLPEncoder((latent_dims[1],), latent_dims[0], (above, above))
        self.decoder = nets.MLPDecoder(latent_dims[0], (PIXELS,), (below, below))

    def forward(self, x: Tensor) -> Any:
        with pyro.plate("data", len(x), dim=-1):
            z2 = pyro.sample("z2", dist.Normal(x.new_zeros(self.latent_dims[1]), 1.0).to_event(1))
            loc, scale = self.middle(z2)
            z1 = pyro.sample("z1", dist.Normal(loc, scale).to_event(1))
            return pyro.sample("x", likelihoods.Bernoulli(1)(self.decoder(z1)), obs=x)


class TwoLayerGuide(nn.Module):
    """x -> z1 -> z2."""

    def __init__(self, latent_dims: tuple[int, int], hidden: tuple[int, int]) -> None:
        super().__init__()
        below, above = hidden
        self.first = nets.MLPEncoder((PIXELS,), latent_dims[0], (below, below))
        self.second = nets.MLPEncoder((latent_dims[0],), latent_dims[1], (above, above))

    def forward(self, x: Tensor) -> None:
        loc, scale = self.first(x)
        with pyro.plate("data", len(x), dim=-1):
            z1 = pyro.sample("z1", dist.Normal(loc, scale).to_event(1))
            loc, scale = self.second(z1)
            pyro.sample("z2", dist.Normal(loc, scale).to_event(1))


def make_pair(point: Point) -> pv.Pair:
    torch.manual_seed(0)
    kind, latent_dim = point["kind"], point["latent_dim"]
    if kind == "two layers":
        latent_dims, hidden = tuple(latent_dim), tuple(point["hidden"])
        return pv.Pair(TwoLayerModel(latent_dims, hidden), TwoLayerGuide(latent_dims, hidden))
    encoder: nets.Encoder
    decoder: nn.Module
    if kind == "convolutional":
        decoder = nets.ConvDecoder(latent_dim, EVENTS[kind])
        encoder = nets.ConvEncoder(EVENTS[kind], latent_dim)
    else:
        decoder = nets.MLPDecoder(latent_dim, EVENTS[kind], tuple(point["hidden"]))
        encoder = nets.MLPEncoder(EVENTS[kind], latent_dim, tuple(point["hidden"]))
    likelihood = likelihoods.Bernoulli(len(EVENTS[kind]))
    return pv.Pair(models.VAE(likelihood, decoder, latent_dim), guides.MeanField(encoder))


def ours(point: Point, capture: bool, matmul_precision: Any = "float32") -> Run:
    pair, particles = make_pair(point), point["num_particles"]
    estimator = estimators.ELBO() if particles == 1 else estimators.IWAE(particles)
    optimizer = torch.optim.Adam(pair.parameters(), lr=1e-3, fused=True)
    step = Step(pair, estimator, optimizer, capture=capture, matmul_precision=matmul_precision)
    stored = data.rows.ResidentRows(torch.from_numpy(rows()).view(-1, *EVENTS[point["kind"]]))
    split, following = data.Split(stored, divisor=255.0, dynamic=True), batches(point["batch"])
    return lambda: step.on(split, torch.from_numpy(following())).item()


def stock_pyro(point: Point) -> Run:
    particles = point["num_particles"]
    loss = (
        Trace_ELBO(max_plate_nesting=1)
        if particles == 1
        else RenyiELBO(alpha=0.0, num_particles=particles, vectorize_particles=True, max_plate_nesting=1)
    )
    svi = SVI(*make_pair(point).pyro(), pyro.optim.Adam({"lr": 1e-3}), loss)
    binarised = binarise(point)
    return lambda: svi.step(binarised())


def binarise(point: Point) -> Any:
    """A batch of binary pixels in plain PyTorch, by the fastest of its ways."""
    pixels, following = torch.from_numpy(rows()), batches(point["batch"])
    event = EVENTS[point["kind"]]

    def batch() -> Tensor:
        means = pixels[torch.from_numpy(following())].float() / 255
        return (torch.rand_like(means) < means).float().view(-1, *event)

    return batch


def layers(*sizes: int) -> nn.Sequential:
    parts: list[nn.Module] = []
    for number, (inputs, outputs) in enumerate(itertools.pairwise(sizes)):
        parts += [nn.Tanh()] if number else []
        parts.append(nn.Linear(inputs, outputs))
    return nn.Sequential(*parts)


def dense_nets(point: Point) -> tuple[nn.Module, nn.Module]:
    hidden, latent_dim = point["hidden"], point["latent_dim"]
    return layers(PIXELS, *hidden, 2 * latent_dim), layers(latent_dim, *hidden, PIXELS)


def convolutional_nets(point: Point) -> tuple[nn.Module, nn.Module]:
    small, options = SIDE // 4, {"kernel_size": 4, "stride": 2, "padding": 1}
    encoder = nn.Sequential(
        *[nn.Conv2d(1, 32, **options), nn.ReLU(), nn.Conv2d(32, 64, **options), nn.ReLU()],
        *[nn.Flatten(), nn.Linear(64 * small**2, 256), nn.ReLU(), nn.Linear(256, 2 * point["latent_dim"])],
    )
    decoder = nn.Sequential(
        *[nn.Linear(point["latent_dim"], 256), nn.ReLU(), nn.Linear(256, 64 * small**2), nn.ReLU()],
        *[nn.Unflatten(-1, (64, small, small)), nn.ConvTranspose2d(64, 32, **options), nn.ReLU()],
        nn.ConvTranspose2d(32, 1, **options),
    )
    return encoder, decoder


def normal(net: nn.Module, given: Tensor, noise_shape: tuple[int, ...] = ()) -> tuple[Tensor, Tensor]:
    """A draw, and minus its log-density but for the constant."""
    loc, log_scale = net(given).chunk(2, -1)
    noise = torch.randn(*noise_shape, *loc.shape)
    return loc + log_scale.exp() * noise, (0.5 * noise.square() + log_scale).sum(-1)


def hand_written(point: Point) -> Run:
    """What one writes without a library: for one particle the ELBO, else the importance-weighted bound."""
    torch.manual_seed(0)
    particles = point["num_particles"]
    lead = (particles,) if particles > 1 else ()
    if point["kind"] == "two layers":
        (below, above), (lower, upper) = point["hidden"], point["latent_dim"]
        encoder, decoder = layers(PIXELS, below, below, 2 * lower), layers(lower, below, below, PIXELS)
        second, middle = layers(lower, above, above, 2 * upper), layers(upper, above, above, 2 * lower)
        net = nn.ModuleList([encoder, decoder, second, middle])
    else:
        make = convolutional_nets if point["kind"] == "convolutional" else dense_nets
        encoder, decoder = make(point)
        net = nn.ModuleList([encoder, decoder])
    optimizer, binarised = torch.optim.Adam(net.parameters(), lr=1e-3), binarise(point)

    def step() -> float:
        x = binarised()
        optimizer.zero_grad()
        z, log_weight = normal(encoder, x, lead)
        if point["kind"] == "two layers":
            z2, more = normal(second, z)
            loc, log_scale = middle(z2).chunk(2, -1)
            prior = 0.5 * ((z - loc) / log_scale.exp()).square() + log_scale
            log_weight = log_weight + more - 0.5 * z2.square().sum(-1) - prior.sum(-1)
        else:
            log_weight = log_weight - 0.5 * z.square().sum(-1)
        logits = decoder(z)
        pixels = functional.binary_cross_entropy_with_logits(logits, x.expand_as(logits), reduction="none")
        log_weight = log_weight - pixels.flatten(len(lead) + 1).sum(-1)
        bound = log_weight.logsumexp(0) - math.log(particles) if lead else log_weight
        loss = -bound.mean()
        loss.backward()
        optimizer.step()
        return loss.item()

    return step


def profile(run: Run, steps: int = 20) -> dict[str, float]:
    """Milliseconds a step by operator, the largest eight."""
    with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CPU]) as found:
        for _ in range(steps):
            run()
    share = {event.key: event.self_cpu_time_total / 1e3 / steps for event in found.key_averages()}
    largest = sorted(share, key=lambda name: -share[name])[:8]
    return {name.strip("# "): round(share[name], 3) for name in largest}


CONTENDERS = {
    "captured": lambda point: ours(point, True),
    "bf16": lambda point: ours(point, True, "bf16"),
    "eager": lambda point: ours(point, False),
    "pyro": stock_pyro,
    "hand": hand_written,
}

if __name__ == "__main__":
    torch.set_num_threads(int(sys.argv[2]))
    with pyro.validation_enabled(False):
        serve(CONTENDERS[sys.argv[1]], profile)
