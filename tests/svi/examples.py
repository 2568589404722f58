"""Three models as users of Pyro write them: a VAE, a conditional VAE, and a model guided by a flow.

Each function takes the SVI class to train with, and that is the one thing that differs between Pyro's and
ours. They give the losses of all steps, the parameters, and the SVI.
"""

from __future__ import annotations

import pyro
import pyro.distributions as dist
import torch
from pyro.distributions import constraints
from pyro.distributions.transforms import affine_coupling, conditional_affine_autoregressive
from pyro.infer import Trace_ELBO, TraceMeanField_ELBO
from pyro.nn import PyroModule, PyroParam
from pyro.optim import Adam, ClippedAdam, ExponentialLR
from torch import nn


def pictures(count, side=4):
    """Bars at random rows: binary images of side x side, flat."""
    rows = torch.randint(side, (count,))
    images = torch.zeros(count, side, side)
    images[torch.arange(count), rows] = 1.0
    flipped = torch.rand(count, side, side) < 0.05
    return (images.bool() ^ flipped).to(torch.get_default_dtype()).flatten(1)


class Encoder(nn.Module):
    def __init__(self, num_inputs, hidden, latent_dim):
        super().__init__()
        self.hidden = nn.Linear(num_inputs, hidden)
        self.loc = nn.Linear(hidden, latent_dim)
        self.log_scale = nn.Linear(hidden, latent_dim)

    def forward(self, x):
        h = nn.functional.softplus(self.hidden(x))
        return self.loc(h), self.log_scale(h).exp()


class PlainVAE(nn.Module):
    """Nets in a module, programs as its methods, parameters registered by `pyro.module`."""

    def __init__(self, num_pixels=16, hidden=12, latent_dim=3):
        super().__init__()
        self.latent_dim = latent_dim
        self.encoder = Encoder(num_pixels, hidden, latent_dim)
        self.decoder = nn.Sequential(
            nn.Linear(latent_dim, hidden), nn.Softplus(), nn.Linear(hidden, num_pixels)
        )

    def model(self, x):
        pyro.module("decoder", self.decoder)
        with pyro.plate("images", x.shape[0]):
            prior = dist.Normal(x.new_zeros(x.shape[0], self.latent_dim), 1.0).to_event(1)
            z = pyro.sample("latent", prior)
            pyro.sample("pixels", dist.Bernoulli(logits=self.decoder(z)).to_event(1), obs=x)

    def guide(self, x):
        pyro.module("encoder", self.encoder)
        with pyro.plate("images", x.shape[0]):
            pyro.sample("latent", dist.Normal(*self.encoder(x)).to_event(1))


def train_vae(SVI, epochs=4, **options):
    data = pictures(40)
    vae = PlainVAE()
    svi = SVI(vae.model, vae.guide, Adam({"lr": 1e-2}), loss=Trace_ELBO(), **options)
    losses = []
    for _ in range(epochs):
        losses += [svi.step(batch) for batch in data.split(16)]  # the last has 8
        losses.append(svi.evaluate_loss(data[:16]))
    return losses, dict(pyro.get_param_store().items()), svi


class LabelledVAE(PyroModule):
    """Completes pictures: p(z | upper half), p(lower half | z, upper half), with a learned noise level."""

    def __init__(self, num_pixels=8, hidden=10, latent_dim=2):
        super().__init__()
        self.prior_net = Encoder(num_pixels, hidden, latent_dim)
        self.guess = nn.Sequential(nn.Linear(num_pixels, hidden), nn.Tanh(), nn.Linear(hidden, num_pixels))
        self.correction = nn.Linear(latent_dim, num_pixels)
        self.noise = PyroParam(torch.tensor(0.7), constraint=constraints.positive)

    def forward(self, upper, lower=None, *, weight=None):
        with pyro.plate("images", len(upper)):
            with pyro.poutine.scale(scale=1.0 if weight is None else weight):
                z = pyro.sample("z", dist.Normal(*self.prior_net(upper)).to_event(1))
            loc = self.guess(upper) + self.correction(z)
            return pyro.sample("lower", dist.Normal(loc, self.noise).to_event(1), obs=lower)


class Recognition(PyroModule):
    def __init__(self, num_pixels=8, hidden=10, latent_dim=2):
        super().__init__()
        self.net = Encoder(2 * num_pixels, hidden, latent_dim)

    def forward(self, upper, lower=None, *, weight=None):
        posterior = dist.Normal(*self.net(torch.cat([upper, lower], -1))).to_event(1)
        with pyro.plate("images", len(upper)), pyro.poutine.scale(scale=1.0 if weight is None else weight):
            pyro.sample("z", posterior)


def train_conditional_vae(SVI, epochs=4, **options):
    upper, lower = pictures(32).chunk(2, -1)
    optimizer = ClippedAdam({"lr": 1e-2, "clip_norm": 5.0, "lrd": 0.99})
    svi = SVI(LabelledVAE(), Recognition(), optimizer, TraceMeanField_ELBO(), **options)
    losses = []
    for epoch in range(epochs):
        weight = torch.tensor((1.0 + epoch) / epochs)  # annealed
        for a, b in zip(upper.split(16), lower.split(16), strict=True):
            losses.append(svi.step(a, lower=b, weight=weight))
        losses.append(svi.evaluate_loss(upper, lower=lower))
    return losses, dict(pyro.get_param_store().items()), svi


def train_flow_guide(SVI, epochs=4, **options):
    """Points on a ring about a centre that is learned; the guide is two flows,
    one of which sees the datum.
    """
    angle = 6.28 * torch.rand(24)
    data = torch.stack([angle.cos(), angle.sin()], -1) + 0.1 * torch.randn(24, 2)
    encoder = nn.Linear(2, 3)
    conditional = conditional_affine_autoregressive(2, context_dim=3, hidden_dims=[8])
    coupling = affine_coupling(2, hidden_dims=[8])

    def model(x):
        centre = pyro.param("centre", torch.full((2,), 0.3))
        radius = pyro.param("radius", lambda: torch.tensor(0.5), constraint=constraints.positive)
        with pyro.plate("points", len(x)):
            z = pyro.sample("z", dist.Normal(x.new_zeros(2), x.new_ones(2)).to_event(1))
            on_ring = centre + radius * z / z.norm(dim=-1, keepdim=True)
            pyro.sample("x", dist.Normal(on_ring, 0.2).to_event(1), obs=x)

    def guide(x):
        pyro.module("encoder", encoder)
        pyro.module("conditional", conditional)
        pyro.module("coupling", coupling)
        with pyro.plate("points", len(x)):
            base = dist.Normal(x.new_zeros(2), x.new_ones(2)).to_event(1)
            flow = [coupling, conditional.condition(encoder(x))]
            pyro.sample("z", dist.TransformedDistribution(base, flow))

    arguments = {"optimizer": torch.optim.Adam, "optim_args": {"lr": 5e-3}, "gamma": 0.5}
    schedule = ExponentialLR(arguments, {"clip_norm": 10.0})
    svi = SVI(model, guide, schedule, Trace_ELBO(num_particles=2, vectorize_particles=True), **options)
    losses = []
    for _ in range(epochs):
        losses += [svi.step(batch) for batch in data.split(12)]
        schedule.step()
    return losses, dict(pyro.get_param_store().items()), svi


EXAMPLES = {"vae": train_vae, "conditional vae": train_conditional_vae, "flow guide": train_flow_guide}
