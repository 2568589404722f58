"""Pairs with discrete latents of 2^6 states, and the exact gradient of their ELBO through all of them."""

from __future__ import annotations

import pyro
import pyro.distributions as dist
import torch
from pyro.poutine.messenger import Messenger
from torch import nn

import ppl_vae as pv
from ppl_vae import guides, likelihoods, models, nets, priors
from ppl_vae.core.drawing import draw
from ppl_vae.core.finite import values_of

SHAPE = (3,)


def encoder(inputs, outputs):
    return nets.MLPEncoder((inputs,), outputs, (4,))


def decoder(latent_dim):
    return nets.MLPDecoder(latent_dim, SHAPE, (4,))


def six_bits():
    model = models.VAE(likelihoods.Bernoulli(1), decoder(6), 6, priors.Bernoulli(6))
    return pv.Pair(model, guides.Bernoulli(encoder(3, 6)))


def two_layers():
    model = models.SigmoidBeliefNetwork(likelihoods.Bernoulli(1), decoder(4), [encoder(2, 4)], (4, 2))
    return pv.Pair(model, guides.BernoulliLayers([encoder(3, 4), encoder(4, 2)]))


def three_layers():
    layers = [encoder(2, 2), encoder(2, 2)]
    model = models.SigmoidBeliefNetwork(likelihoods.Bernoulli(1), decoder(2), layers, (2, 2, 2))
    return pv.Pair(model, guides.BernoulliLayers([encoder(3, 2), encoder(2, 2), encoder(2, 2)]))


def two_codes():
    model = models.VAE(likelihoods.Bernoulli(1), decoder(16), 16, priors.Categorical(2, 8))
    return pv.Pair(model, guides.Categorical(encoder(3, 16), 8))


class Plated(nn.Module):
    """Two bits in each of two slices of an inner plate, and one before them; a mask on one slice."""

    def __init__(self, is_model):
        super().__init__()
        self.is_model = is_model
        self.p = nn.Parameter(torch.tensor([0.4, -0.7, 0.9, 0.3, -0.5]))

    def forward(self, x):
        p, own = self.p, torch.zeros_like(x[:, 0]) if self.is_model else x[:, 0]
        with pyro.plate("data", len(x), dim=-1):
            a = pyro.sample("a", dist.Bernoulli(logits=p[0] + p[1] * own))
            with pyro.plate("inner", 2, dim=-2), pyro.poutine.mask(mask=torch.tensor([[True], [False]])):
                logits = (p[2] * own + p[3] * a - p[4]).unsqueeze(-1).expand(*a.shape, 2)
                b = pyro.sample("b", dist.Bernoulli(logits=logits).to_event(1))
            if self.is_model:
                mean = p[2] * a + (b * torch.tensor([1.0, -0.6])).sum(-1).sum(-2, keepdim=a.dim() > 1)
                pyro.sample(
                    "x", dist.Normal(mean.unsqueeze(-1), 1.0).expand([*mean.shape, 3]).to_event(1), obs=x
                )


def plated():
    return pv.Pair(Plated(True), Plated(False))


STATES = {
    "six bits": six_bits, "two layers": two_layers, "three layers": three_layers, "two codes": two_codes,
    "inner plate": plated,
}  # fmt: skip


def make(name):
    with torch.random.fork_rng():
        torch.manual_seed(3)
        pair = STATES[name]().double()
        with torch.no_grad():
            for parameter in pair.parameters():
                parameter.add_(0.5 * torch.randn_like(parameter))
        return pair, (torch.rand(2, *SHAPE) < 0.5).double()


class Given(Messenger):
    """Gives the guide's sites these values."""

    def __init__(self, values):
        super().__init__()
        self.values = values

    def _pyro_sample(self, msg):
        if msg["name"] in self.values and not msg["done"]:
            msg["value"], msg["done"] = self.values[msg["name"]], True


def states(pair, x):
    """Every state of all sites, by site, (states * B, *event), and the batch repeated as often."""
    trace = draw(pair.model, pair.guide, (x,)).guide_trace
    names = [name for name in trace.nodes if trace.nodes[name]["type"] == "sample" and name != "data"]
    names = [name for name in names if not trace.nodes[name]["is_observed"] and name != "inner"]
    slots, single = [], {}
    for name in names:
        fn = trace.nodes[name]["fn"]
        single[name] = values_of(fn).reshape(-1, *fn.event_shape)
        slots += [(name, row) for row in range(fn.batch_shape[:-1].numel())]
    grid = torch.cartesian_prod(*[torch.arange(len(single[name])) for name, _ in slots]).reshape(
        -1, len(slots)
    )
    grid = grid.repeat(len(x), 1)
    values = {}
    for name in names:
        rows = [single[name][grid[:, i]] for i, (each, _) in enumerate(slots) if each == name]
        plates = trace.nodes[name]["fn"].batch_shape[:-1]
        values[name] = torch.stack(rows) if plates else rows[0]
    return values, x.repeat_interleave(len(grid) // len(x), 0)


def exact_elbo(pair, x):
    """The ELBO of each datum's mean, summed over every state; differentiable."""
    values, many = states(pair, x)
    particles = draw(pair.model, pair.guide, (many,), guide_handler=Given(values))
    probability = sum(particles.log_draw.values()).exp()
    total = probability.reshape(len(x), -1).sum(1)
    torch.testing.assert_close(total, torch.ones_like(total))  # these are all states
    return (probability * particles.log_weight).sum() / len(x)
