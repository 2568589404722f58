"""Eleven programs in the style of Pyro's examples: functions, nets registered, parameters made as they run.

Each is a function without arguments that gives an `Example`, made anew with the same numbers at every call.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import pyro
import pyro.distributions as dist
import torch
from pyro import poutine
from pyro.infer import Trace_ELBO, TraceEnum_ELBO, TraceGraph_ELBO, autoguide, config_enumerate
from torch import Tensor, nn
from torch.distributions import constraints

from tests.attacks import tutorial_programs


class Example(NamedTuple):
    """A model, a guide, the tensors that both are called with, and Pyro's estimator for them."""

    model: Callable[..., Any]
    guide: Callable[..., Any]
    batch: tuple[Tensor, ...]
    loss: Any
    allow_global: bool = False


def vae() -> Example:
    encoder, decoder = nn.Sequential(nn.Linear(6, 8), nn.Softplus(), nn.Linear(8, 4)), nn.Linear(2, 6)

    def model(x):
        pyro.module("decoder", decoder)
        with pyro.plate("data", x.shape[0]):
            z = pyro.sample("latent", dist.Normal(x.new_zeros(x.shape[0], 2), 1.0).to_event(1))
            pyro.sample("obs", dist.Bernoulli(logits=decoder(z)).to_event(1), obs=x)

    def guide(x):
        pyro.module("encoder", encoder)
        with pyro.plate("data", x.shape[0]):
            loc, log_scale = encoder(x).chunk(2, -1)
            pyro.sample("latent", dist.Normal(loc, log_scale.exp()).to_event(1))

    return Example(model, guide, (bits(),), Trace_ELBO())


def semi_supervised() -> Example:
    """M2, its labels seen where they are not negative; the others are drawn by the guide."""
    classifier, encoder, decoder = nn.Linear(6, 3), nn.Linear(9, 4), nn.Linear(5, 6)

    def model(x, y):
        pyro.module("decoder", decoder)
        with pyro.plate("data", len(x)):
            label = pyro.sample("y", dist.OneHotCategorical(logits=x.new_zeros(len(x), 3)))
            z = pyro.sample("z", dist.Normal(x.new_zeros(len(x), 2), 1.0).to_event(1))
            hidden = torch.cat([z, label.expand(*z.shape[:-1], 3)], -1)
            pyro.sample("x", dist.Bernoulli(logits=decoder(hidden)).to_event(1), obs=x)

    def guide(x, y):
        pyro.module("classifier", classifier), pyro.module("encoder", encoder)
        with pyro.plate("data", len(x)):
            certain = 30.0 * nn.functional.one_hot(y.clamp(min=0), 3)
            logits = torch.where((y < 0)[:, None], classifier(x), certain.to(x))
            label = pyro.sample("y", dist.OneHotCategorical(logits=logits))
            given = torch.cat([x.expand(*label.shape[:-1], 6), label], -1)
            loc, log_scale = encoder(given).chunk(2, -1)
            pyro.sample("z", dist.Normal(loc, log_scale.exp()).to_event(1))

    return Example(model, guide, (bits(), torch.arange(16) % 4 - 1), TraceGraph_ELBO())


def conditional_vae() -> Example:
    prior, encoder, decoder = nn.Linear(3, 4), nn.Linear(9, 4), nn.Linear(2, 6)

    def model(x, y):
        pyro.module("prior", prior), pyro.module("decoder", decoder)
        with pyro.plate("data", len(x)):
            loc, log_scale = prior(nn.functional.one_hot(y, 3).to(x)).chunk(2, -1)
            z = pyro.sample("z", dist.Normal(loc, log_scale.exp()).to_event(1))
            pyro.sample("x", dist.Bernoulli(logits=decoder(z)).to_event(1), obs=x)

    def guide(x, y):
        pyro.module("encoder", encoder)
        with pyro.plate("data", len(x)):
            loc, log_scale = encoder(torch.cat([x, nn.functional.one_hot(y, 3).to(x)], -1)).chunk(2, -1)
            pyro.sample("z", dist.Normal(loc, log_scale.exp()).to_event(1))

    return Example(model, guide, (bits(), torch.arange(16) % 3), Trace_ELBO())


def deep_markov() -> Example:
    """Padded sequences of unequal length, a recurrent guide."""
    move, emit = nn.Linear(2, 4), nn.Linear(2, 3)
    rnn, combine = nn.RNN(3, 5, batch_first=True), nn.Linear(7, 4)

    def model(x, mask):
        pyro.module("move", move), pyro.module("emit", emit)
        start = pyro.param("start", torch.zeros(2))
        with pyro.plate("sequences", len(x)):
            z = start.expand(len(x), 2)
            for t in pyro.markov(range(x.shape[1])):
                loc, log_scale = move(z).chunk(2, -1)
                with poutine.mask(mask=mask[:, t]):
                    z = pyro.sample(f"z_{t}", dist.Normal(loc, log_scale.exp()).to_event(1))
                    pyro.sample(f"x_{t}", dist.Bernoulli(logits=emit(z)).to_event(1), obs=x[:, t])

    def guide(x, mask):
        pyro.module("rnn", rnn), pyro.module("combine", combine)
        features, _ = rnn(x)
        with pyro.plate("sequences", len(x)):
            z = pyro.param("first", torch.zeros(2)).expand(len(x), 2)
            for t in pyro.markov(range(x.shape[1])):
                seen = features[:, t].expand(*z.shape[:-1], 5)
                loc, log_scale = combine(torch.cat([z, seen], -1)).chunk(2, -1)
                with poutine.mask(mask=mask[:, t]):
                    z = pyro.sample(f"z_{t}", dist.Normal(loc, log_scale.exp()).to_event(1))

    x = (torch.rand(8, 4, 3) < 0.5).float()
    return Example(model, guide, (x, torch.arange(4) < torch.arange(8)[:, None] % 4 + 1), Trace_ELBO())


def topics() -> Example:
    """Latent Dirichlet allocation, each word's topic summed over in the model."""
    predictor = nn.Linear(8, 3)

    @config_enumerate
    def model(words):
        with pyro.plate("topics", 3):
            topic = pyro.sample("topic", dist.Dirichlet(torch.ones(8) / 8))
        with pyro.plate("documents", len(words)):
            mixture = pyro.sample("mixture", dist.Dirichlet(torch.ones(3)))
            with pyro.plate("words", words.shape[1]):
                which = pyro.sample("which", dist.Categorical(mixture))
                pyro.sample("word", dist.Categorical(pick(topic, which)), obs=words.T)

    def guide(words):
        posterior = pyro.param("posterior", torch.ones(3, 8), constraint=constraints.greater_than(0.5))
        pyro.module("predictor", predictor)
        with pyro.plate("topics", 3):
            pyro.sample("topic", dist.Dirichlet(posterior))
        with pyro.plate("documents", len(words)):
            counts = nn.functional.one_hot(words, 8).sum(1).float()
            pyro.sample("mixture", dist.Dirichlet(predictor(counts).exp()))

    words = torch.randint(0, 8, (10, 5))
    return Example(model, guide, (words,), TraceEnum_ELBO(max_plate_nesting=2), allow_global=True)


def pick(topic: Tensor, which: Tensor) -> Tensor:
    """The words' probabilities in each word's topic, where topics may have particles to the left."""
    from pyro.ops.indexing import Vindex

    return Vindex(topic[..., None, None, :, :] if topic.dim() > 2 else topic)[..., which, :]


def gamma_layers() -> Example:
    """A sparse gamma deep exponential family of one layer, its parameters by hand."""

    def model(x):
        with pyro.plate("loadings", 12):
            w = pyro.sample("w", dist.Gamma(0.3, 0.1))
        with pyro.plate("data", len(x)):
            z = pyro.sample("z", dist.Gamma(x.new_full((3,), 0.5), 0.3).to_event(1))
            rate = (z[..., None, :] @ w.reshape(*w.shape[:-1], *[1] * (w.dim() > 1), 3, 4)).squeeze(-2)
            pyro.sample("x", dist.Poisson(rate + 1e-3).to_event(1), obs=x)

    def guide(x):
        def positive(name, *shape):
            return nn.functional.softplus(pyro.param(name, lambda: torch.full(shape, 0.5)))

        with pyro.plate("loadings", 12):
            pyro.sample("w", dist.Gamma(positive("w_a", 12), positive("w_b", 12)))
        with pyro.plate("data", len(x)):
            pyro.sample("z", dist.Gamma(positive("z_a", len(x), 3), positive("z_b", len(x), 3)).to_event(1))

    x = torch.poisson(torch.full((8, 4), 2.0))
    return Example(model, guide, (x,), Trace_ELBO(), allow_global=True)


def regression() -> Example:
    model, guide, loss, (batch,) = tutorial_programs.regression(autoguide.AutoNormal)
    return Example(model, guide, batch, loss, allow_global=True)


def flow() -> Example:
    """A conditional flow as the posterior of each datum."""
    encoder, transform = nn.Linear(6, 4), dist.transforms.affine_coupling(2, hidden_dims=[6])
    decoder = nn.Linear(2, 6)

    def model(x):
        pyro.module("decoder", decoder)
        with pyro.plate("data", len(x)):
            z = pyro.sample("z", dist.Normal(x.new_zeros(2), 1.0).to_event(1))
            pyro.sample("x", dist.Bernoulli(logits=decoder(z)).to_event(1), obs=x)

    def guide(x):
        pyro.module("encoder", encoder), pyro.module("transform", transform)
        loc, log_scale = encoder(x).chunk(2, -1)
        base = dist.Normal(loc, log_scale.exp()).to_event(1)
        with pyro.plate("data", len(x)):
            pyro.sample("z", dist.TransformedDistribution(base, [transform]))

    return Example(model, guide, (bits(),), Trace_ELBO())


def eight_schools() -> Example:
    y = torch.tensor([28.0, 8.0, -3.0, 7.0, -1.0, 1.0, 18.0, 12.0])
    sigma = torch.tensor([15.0, 10.0, 16.0, 11.0, 9.0, 11.0, 10.0, 18.0])

    def model(y, sigma):
        mu = pyro.sample("mu", dist.Normal(0.0, 10.0))
        tau = pyro.sample("tau", dist.HalfCauchy(5.0))
        with pyro.plate("schools", len(y)):
            eta = pyro.sample("eta", dist.Normal(0.0, 1.0))
            pyro.sample("y", dist.Normal(mu + tau * eta, sigma), obs=y)

    return Example(model, autoguide.AutoNormal(model), (y, sigma), Trace_ELBO(), allow_global=True)


def learned_noise() -> Example:
    """What all data share by an autoguide, the rest by parameters and a net of the model's own."""
    features = nn.Linear(2, 3)

    def model(x, y):
        pyro.module("features", features)
        noise = pyro.param("noise", torch.tensor(0.7), constraint=constraints.positive)
        w = pyro.sample("w", dist.Normal(torch.zeros(3), 1.0).to_event(1))
        with pyro.plate("data", len(x)):
            mean = (features(x).tanh() * w.unsqueeze(-2)).sum(-1)
            pyro.sample("y", dist.Normal(mean, noise), obs=y)

    x = torch.randn(12, 2)
    return Example(model, autoguide.AutoNormal(model), (x, x.sum(-1)), Trace_ELBO(), allow_global=True)


def mixture() -> Example:
    """A Gaussian mixture whose assignments are summed over, all else by a point."""

    @config_enumerate
    def model(x):
        weights = pyro.sample("weights", dist.Dirichlet(0.5 * torch.ones(2)))
        scale = pyro.sample("scale", dist.LogNormal(0.0, 2.0))
        with pyro.plate("components", 2):
            locs = pyro.sample("locs", dist.Normal(0.0, 10.0))
        with pyro.plate("data", len(x)):
            assignment = pyro.sample("assignment", dist.Categorical(weights))
            pyro.sample("obs", dist.Normal(locs[assignment], scale), obs=x)

    guide = autoguide.AutoNormal(poutine.block(model, expose=["weights", "locs", "scale"]))
    x = torch.tensor([0.0, 1.0, 10.0, 11.0, 12.0])
    return Example(model, guide, (x,), TraceEnum_ELBO(max_plate_nesting=1), allow_global=True)


def bits() -> Tensor:
    """Sixteen data of six bits."""
    return (torch.rand(16, 6) < 0.4).float()


EXAMPLES: dict[str, Callable[[], Example]] = {
    "VAE": vae,
    "semi-supervised": semi_supervised,
    "conditional VAE": conditional_vae,
    "deep Markov model": deep_markov,
    "topics": topics,
    "gamma layers": gamma_layers,
    "Bayesian regression": regression,
    "flow": flow,
    "eight schools": eight_schools,
    "learned noise": learned_noise,
    "mixture": mixture,
}
