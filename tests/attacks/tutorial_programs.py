"""Programs as people write them who read Pyro's tutorials: functions, globals, loops, autoguides,
enumeration.

Each is a function without arguments that gives (model, guide, loss, the batches' arguments).
"""

from __future__ import annotations

import functools

import pyro
import pyro.distributions as dist
import torch
from pyro import poutine
from pyro.infer import (
    Trace_ELBO,
    TraceEnum_ELBO,
    TraceGraph_ELBO,
    TraceMeanField_ELBO,
    autoguide,
    config_enumerate,
)
from pyro.nn import PyroModule, PyroParam, PyroSample
from pyro.ops.indexing import Vindex
from torch import nn
from torch.distributions import constraints


def coin():
    """Fairness of a coin, a site a toss."""
    tosses = [torch.tensor(float(number % 3 > 0)) for number in range(8)]

    def model(data):
        fairness = pyro.sample("fairness", dist.Beta(10.0, 10.0))
        for number, toss in enumerate(data):
            pyro.sample(f"toss_{number}", dist.Bernoulli(fairness), obs=toss)

    def guide(data):
        high = pyro.param("high", torch.tensor(15.0), constraint=constraints.positive)
        low = pyro.param("low", torch.tensor(15.0), constraint=constraints.positive)
        pyro.sample("fairness", dist.Beta(high, low))

    return model, guide, Trace_ELBO(), [(tosses,)]


def sequential_plate():
    """Subsampled, and a loop: the names of its sites hang on the draw of the indices."""
    data = torch.tensor([0.5, -1.0, 2.0, 0.1])

    def model():
        for i in pyro.plate("data", 4, subsample_size=2):
            z = pyro.sample(f"z_{i}", dist.Normal(0.0, 1.0))
            pyro.sample(f"x_{i}", dist.Normal(z, 1.0), obs=data[i])

    def guide():
        for i in pyro.plate("data", 4, subsample_size=2):
            pyro.sample(f"z_{i}", dist.Normal(pyro.param(f"loc_{i}", torch.tensor(0.1 * i)), 0.8))

    return model, guide, Trace_ELBO(), [()]


def regression(make):
    """Bayesian regression by PyroModule with an autoguide."""

    class Regression(PyroModule):
        def __init__(self):
            super().__init__()
            self.linear = PyroModule[nn.Linear](3, 1)
            self.linear.weight = PyroSample(dist.Normal(0.0, 1.0).expand([1, 3]).to_event(2))
            self.linear.bias = PyroSample(dist.Normal(0.0, 10.0).expand([1]).to_event(1))

        def forward(self, x, y=None):
            sigma = pyro.sample("sigma", dist.Uniform(0.0, 10.0))
            mean = self.linear(x).squeeze(-1)
            with pyro.plate("data", x.shape[0]):
                pyro.sample("obs", dist.Normal(mean, sigma), obs=y)
            return mean

    x, model = torch.randn(12, 3), Regression()
    return model, make(model), Trace_ELBO(), [(x, x.sum(-1))]


def mixture():
    """A Gaussian mixture, its assignments enumerated in the model and summed."""
    data = torch.tensor([0.0, 1.0, 10.0, 11.0, 12.0])

    @config_enumerate
    def model(x):
        weights = pyro.sample("weights", dist.Dirichlet(0.5 * torch.ones(2)))
        scale = pyro.sample("scale", dist.LogNormal(0.0, 2.0))
        with pyro.plate("components", 2):
            locs = pyro.sample("locs", dist.Normal(0.0, 10.0))
        with pyro.plate("data", len(x)):
            assignment = pyro.sample("assignment", dist.Categorical(weights))
            pyro.sample("obs", dist.Normal(locs[assignment], scale), obs=x)

    guide = autoguide.AutoDelta(poutine.block(model, expose=["weights", "locs", "scale"]))
    return model, guide, TraceEnum_ELBO(max_plate_nesting=1), [(data,)]


def vae():
    """With `pyro.module` and nets outside of the programs."""
    encoder, decoder = nn.Sequential(nn.Linear(6, 5), nn.Softplus(), nn.Linear(5, 4)), nn.Linear(2, 6)

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

    batches = [((torch.rand(7, 6) < 0.4).to(torch.get_default_dtype()),) for _ in range(3)]
    return model, guide, Trace_ELBO(), batches


def mean_field_vae():
    model, guide, _, batches = vae()
    return model, guide, TraceMeanField_ELBO(), batches


def annealed_vae():
    """The KL weight comes as an argument."""
    model, guide, loss, batches = vae()

    def annealed(program, x, factor):
        with poutine.scale(scale=factor):
            return program(x)

    given = [(x, torch.tensor(0.1 * number)) for number, (x,) in enumerate(batches, 1)]
    return functools.partial(annealed, model), functools.partial(annealed, guide), loss, given


def semi_supervised():
    """Labels are there in some calls."""
    net = nn.Linear(4, 3)

    def model(x, y=None):
        with pyro.plate("data", len(x)):
            y = pyro.sample("y", dist.OneHotCategorical(x.new_ones(3) / 3), obs=y)
            z = pyro.sample("z", dist.Normal(x.new_zeros(1), 1.0).to_event(1))
            pyro.sample("x", dist.Normal(torch.cat([y, z], -1), 1.0).to_event(1), obs=x)

    def guide(x, y=None):
        pyro.module("net", net)
        with pyro.plate("data", len(x)):
            if y is None:
                pyro.sample("y", dist.OneHotCategorical(logits=net(x)))
            pyro.sample("z", dist.Normal(pyro.param("loc", torch.zeros(1)), 1.0).to_event(1))

    x, y = torch.randn(5, 4), torch.eye(3)[torch.tensor([0, 1, 2, 0, 1])]
    return model, guide, TraceGraph_ELBO(), [(x,), (x, y)]


def markov():
    """A deep Markov model's loop over the time steps of padded sequences, with a mask for what is there."""
    move, emit, rnn = nn.Linear(2, 2), nn.Linear(2, 3), nn.RNN(3, 4, batch_first=True)
    combine = nn.Linear(4, 4)

    def model(x, mask):
        pyro.module("move", move), pyro.module("emit", emit)
        with pyro.plate("sequences", len(x)):
            z = pyro.param("start", torch.zeros(2)).expand(len(x), 2)
            for t in pyro.markov(range(x.shape[1])):
                with poutine.mask(mask=mask[:, t]):
                    z = pyro.sample(f"z_{t}", dist.Normal(move(z).tanh(), 0.7).to_event(1))
                    pyro.sample(f"x_{t}", dist.Bernoulli(logits=emit(z)).to_event(1), obs=x[:, t])

    def guide(x, mask):
        pyro.module("rnn", rnn), pyro.module("combine", combine)
        features, _ = rnn(x)
        with pyro.plate("sequences", len(x)):
            for t in pyro.markov(range(x.shape[1])):
                loc, log_scale = combine(features[:, t]).chunk(2, -1)
                with poutine.mask(mask=mask[:, t]):
                    pyro.sample(f"z_{t}", dist.Normal(loc, log_scale.exp()).to_event(1))

    x = (torch.rand(4, 5, 3) < 0.5).to(torch.get_default_dtype())
    mask = torch.arange(5) < torch.tensor([5, 3, 4, 1])[:, None]
    return model, guide, Trace_ELBO(), [(x, mask)]


def hidden_markov():
    """States enumerated through time."""
    data = torch.tensor([0.1, 0.9, 1.2, -0.3, 1.1])

    def model(x):
        stay = pyro.param("stay", torch.tensor([[0.8, 0.2], [0.3, 0.7]]), constraint=constraints.simplex)
        means = pyro.param("means", torch.tensor([0.0, 1.0]))
        state = 0
        for t in pyro.markov(range(len(x))):
            state = pyro.sample(
                f"state_{t}", dist.Categorical(Vindex(stay)[state]), infer={"enumerate": "parallel"}
            )
            pyro.sample(f"x_{t}", dist.Normal(means[state], 0.5), obs=x[t])

    return model, lambda x: None, TraceEnum_ELBO(max_plate_nesting=0), [(data,)]


def eight_schools():
    y = torch.tensor([28.0, 8.0, -3.0, 7.0, -1.0, 1.0, 18.0, 12.0])
    sigma = torch.tensor([15.0, 10.0, 16.0, 11.0, 9.0, 11.0, 10.0, 18.0])

    def model():
        mu, tau = pyro.sample("mu", dist.Normal(0.0, 10.0)), pyro.sample("tau", dist.HalfCauchy(5.0))
        with pyro.plate("schools", 8):
            eta = pyro.sample("eta", dist.Normal(0.0, 1.0))
            pyro.sample("y", dist.Normal(mu + tau * eta, sigma), obs=y)

    return model, autoguide.AutoDiagonalNormal(model, init_scale=0.1), Trace_ELBO(), [()]


def gamma_def():
    """A layer of a sparse gamma belief network with hand-made softplus parameters."""
    x = torch.poisson(torch.full((6, 4), 2.0))

    def model():
        with pyro.plate("loadings", 12):
            w = pyro.sample("w", dist.Gamma(0.3, 0.1)).reshape(3, 4)
        with pyro.plate("data", 6):
            z = pyro.sample("z", dist.Gamma(torch.full((3,), 0.5), 0.3).to_event(1))
            pyro.sample("x", dist.Poisson(z @ w + 1e-3).to_event(1), obs=x)

    def guide():
        def positive(name, shape):
            return nn.functional.softplus(pyro.param(name, torch.randn(shape)))

        with pyro.plate("loadings", 12):
            pyro.sample("w", dist.Gamma(positive("w_a", (12,)), positive("w_b", (12,))))
        with pyro.plate("data", 6):
            pyro.sample("z", dist.Gamma(positive("z_a", (6, 3)), positive("z_b", (6, 3))).to_event(1))

    return model, guide, Trace_ELBO(), [()]


def topics():
    """Latent Dirichlet allocation with amortised documents and subsampling inside the programs."""
    words, predictor = torch.randint(0, 8, (5, 10)), nn.Linear(8, 3)

    @config_enumerate
    def model():
        with pyro.plate("topics", 3):
            topic = pyro.sample("topic", dist.Dirichlet(torch.ones(8) / 8))
        with pyro.plate("documents", 10, subsample_size=4) as index:
            mixture = pyro.sample("mixture", dist.Dirichlet(torch.ones(3) / 3))
            with pyro.plate("words", 5):
                which = pyro.sample("which", dist.Categorical(mixture))
                pyro.sample("word", dist.Categorical(topic[which]), obs=words[:, index])

    def guide():
        posterior = pyro.param("posterior", torch.ones(3, 8), constraint=constraints.greater_than(0.5))
        pyro.module("predictor", predictor)
        with pyro.plate("topics", 3):
            pyro.sample("topic", dist.Dirichlet(posterior))
        with pyro.plate("documents", 10, subsample_size=4) as index:
            counts = nn.functional.one_hot(words[:, index], 8).sum(0).to(torch.get_default_dtype())
            pyro.sample("mixture", dist.Delta(predictor(counts).softmax(-1), event_dim=1))

    return model, guide, TraceEnum_ELBO(max_plate_nesting=2), [()]


def flow():
    """A guide through a transform that learns."""
    transform = dist.transforms.affine_coupling(2, hidden_dims=[6])

    def model(x):
        z = pyro.sample("z", dist.Normal(torch.zeros(2), 1.0).to_event(1))
        with pyro.plate("data", len(x)):
            pyro.sample("x", dist.Normal(z, 0.5).to_event(1), obs=x)

    def guide(x):
        pyro.module("transform", transform)
        base = dist.Normal(torch.zeros(2), 1.0).to_event(1)
        pyro.sample("z", dist.TransformedDistribution(base, [transform]))

    return model, guide, Trace_ELBO(), [(torch.randn(5, 2),)]


def gaussian_process():
    """A module with constrained parameters of its own."""

    class Process(PyroModule):
        def __init__(self):
            super().__init__()
            self.length = PyroParam(torch.tensor(0.7), constraint=constraints.positive)

        def forward(self, x, y):
            kernel = (-((x[:, None] - x) ** 2) / self.length**2).exp() + 0.1 * torch.eye(len(x))
            f = pyro.sample("f", dist.MultivariateNormal(torch.zeros(len(x)), kernel))
            with pyro.plate("data", len(x)):
                pyro.sample("y", dist.Normal(f, 0.3), obs=y)

    model, x = Process(), torch.linspace(0, 1, 6)
    return model, autoguide.AutoMultivariateNormal(model), Trace_ELBO(), [(x, x.sin())]


def air():
    """As Attend, Infer, Repeat: discrete choices steer masks, with a baseline that learns."""
    baseline = nn.Linear(3, 1)

    def model(x):
        with pyro.plate("data", len(x)):
            there = pyro.sample("there", dist.Bernoulli(0.4))
            z = pyro.sample("z", dist.Normal(0.0, 1.0).mask(there.bool()))
            loc = (there * z)[..., None].expand(*there.shape, 3)
            pyro.sample("x", dist.Normal(loc, 1.0).to_event(1), obs=x)

    def guide(x):
        pyro.module("baseline", baseline)
        with pyro.plate("data", len(x)):
            given = baseline(x).squeeze(-1)
            there = pyro.sample(
                "there",
                dist.Bernoulli(pyro.param("p", torch.tensor(0.3), constraint=constraints.unit_interval)),
                infer={"baseline": {"baseline_value": given}},
            )
            pyro.sample("z", dist.Normal(pyro.param("loc", torch.zeros(())), 1.0).mask(there.bool()))

    return model, guide, TraceGraph_ELBO(), [(torch.randn(6, 3),)]


def tracking():
    """A program with statements of its own: it keeps what it drew, and prints now and then."""
    history, seen = [], {"last": None}
    _, guide, loss, batches = vae()
    decoder = nn.Linear(2, 6)

    def model(x):
        pyro.module("decoder", decoder)
        with pyro.plate("data", len(x)):
            z = pyro.sample("latent", dist.Normal(x.new_zeros(2), 1.0).to_event(1))
            history.append(z.detach())
            seen["last"] = z
            pyro.deterministic("radius", z.norm(dim=-1))
            pyro.sample("obs", dist.Bernoulli(logits=decoder(z)).to_event(1), obs=x)

    return model, guide, loss, batches


PROGRAMS = {
    "coin": coin,
    "sequential plate": sequential_plate,
    "auto diagonal": functools.partial(regression, autoguide.AutoDiagonalNormal),
    "auto normal": functools.partial(regression, autoguide.AutoNormal),
    "auto full": functools.partial(regression, autoguide.AutoMultivariateNormal),
    "auto delta": functools.partial(regression, autoguide.AutoDelta),
    "auto flow": functools.partial(regression, autoguide.AutoIAFNormal),
    "mixture": mixture,
    "VAE": vae,
    "mean-field VAE": mean_field_vae,
    "annealed VAE": annealed_vae,
    "semi-supervised": semi_supervised,
    "Markov": markov,
    "hidden Markov": hidden_markov,
    "eight schools": eight_schools,
    "gamma DEF": gamma_def,
    "topics": topics,
    "flow": flow,
    "Gaussian process": gaussian_process,
    "AIR": air,
    "tracking": tracking,
}

REFUSED = {"sequential plate": "the program looks at the values"}
"""What no captured step can be made of, and why."""
