"""Programs with finite sites that the model alone has, and the truth about them by other means."""

from __future__ import annotations

import itertools

import pyro
import pyro.distributions as dist
import torch
from pyro import poutine
from torch import nn

STATES, TIMES, WORDS = 3, 5, 4


class Empty(nn.Module):
    """A guide that draws nothing."""

    def forward(self, *batch):
        pass


class Mixture(nn.Module):
    """k ~ Categorical, z | k ~ Normal, x | z ~ Normal; `mark` says how k is marked."""

    def __init__(self, mark=None):
        super().__init__()
        self.mark = mark
        self.logits = nn.Parameter(torch.tensor([0.3, 0.0, -1.0]))
        self.means = nn.Parameter(torch.tensor([-1.0, 2.0, 4.0]))

    def forward(self, x):
        with pyro.plate("data", len(x), dim=-1):
            infer = {} if self.mark is None else {"enumerate": self.mark}
            k = pyro.sample("k", dist.Categorical(logits=self.logits), infer=infer)
            z = pyro.sample("z", dist.Normal(self.means[k], 0.8))
            return pyro.sample("x", dist.Normal(z, 1.0), obs=x)

    def prior(self):
        return dist.MixtureSameFamily(dist.Categorical(logits=self.logits), dist.Normal(self.means, 0.8))

    def log_evidence(self, x):
        scale = self.means.new_tensor(0.8**2 + 1).sqrt()
        return dist.MixtureSameFamily(
            dist.Categorical(logits=self.logits), dist.Normal(self.means, scale)
        ).log_prob(x)


class Amortised(nn.Module):
    def __init__(self):
        super().__init__()
        self.slope, self.log_scale = nn.Parameter(torch.tensor(0.5)), nn.Parameter(torch.tensor(-0.2))

    def forward(self, x):
        with pyro.plate("data", len(x), dim=-1):
            pyro.sample("z", dist.Normal(self.slope * x, self.log_scale.exp()))


class Clusters(nn.Module):
    """x is normal around one of three means: no latent but the finite one."""

    def __init__(self, mark=None, data_size=None, scale=1.0):
        super().__init__()
        self.mark, self.data_size, self.scale = mark, data_size, scale
        self.logits = nn.Parameter(torch.tensor([0.3, 0.0, -1.0]))
        self.means = nn.Parameter(torch.tensor([-1.0, 2.0, 4.0]))

    def forward(self, x):
        plate = pyro.plate("data", self.data_size or len(x), subsample=torch.arange(len(x)), dim=-1)
        with plate, poutine.scale(scale=self.scale):
            infer = {} if self.mark is None else {"enumerate": self.mark}
            k = pyro.sample("k", dist.Categorical(logits=self.logits), infer=infer)
            return pyro.sample("x", dist.Normal(self.means[k], 1.0), obs=x)

    def log_evidence(self, x):
        return dist.MixtureSameFamily(
            dist.Categorical(logits=self.logits), dist.Normal(self.means, 1.0)
        ).log_prob(x)


class HMM(nn.Module):
    """A hidden Markov chain of unequal lengths; `forbidden` makes one of its transitions impossible."""

    def __init__(self, forbidden=False):
        super().__init__()
        logits = torch.randn(STATES + 1, STATES)
        self.logits = nn.Parameter(logits)
        self.register_buffer("shut", torch.zeros(STATES + 1, STATES))
        if forbidden:
            self.shut[1, 2] = self.shut[0, 0] = -torch.inf
        self.means = nn.Parameter(torch.randn(STATES))

    def forward(self, x, lengths):
        table = (self.logits + self.shut).log_softmax(-1)
        with pyro.plate("data", len(x), dim=-1):
            s = torch.zeros((), dtype=torch.long)
            for t in pyro.markov(range(x.shape[1])):
                with poutine.mask(mask=t < lengths):
                    s = 1 + pyro.sample(f"s_{t}", dist.Categorical(logits=table[s]))
                    pyro.sample(f"x_{t}", dist.Normal(self.means[s - 1], 1.0), obs=x[:, t])

    def log_evidence(self, x, lengths):
        """The forward algorithm, a sequence at a time."""
        table, values = (self.logits + self.shut).log_softmax(-1), []
        for row, length in zip(x, lengths):
            alpha = table[0]
            for t in range(int(length)):
                if t:
                    alpha = (alpha.unsqueeze(-1) + table[1:]).logsumexp(0)
                alpha = alpha + dist.Normal(self.means, 1.0).log_prob(row[t])
            values.append(alpha.logsumexp(0))
        return torch.stack(values)


class Topics(nn.Module):
    """Latent Dirichlet allocation: a topic for each word, of a document's own proportions."""

    def __init__(self):
        super().__init__()
        self.words = nn.Parameter(torch.randn(STATES, 6))

    def forward(self, x):
        with pyro.plate("documents" if False else "data", len(x), dim=-1):
            theta = pyro.sample("theta", dist.Dirichlet(x.new_ones(STATES, dtype=self.words.dtype)))
            with pyro.plate("words", x.shape[1], dim=-2):
                topic = pyro.sample("topic", dist.Categorical(theta))
                pyro.sample("x", dist.Categorical(logits=self.words[topic]), obs=x.T)


class TopicsGuide(nn.Module):
    def __init__(self):
        super().__init__()
        self.log_rate = nn.Parameter(torch.randn(6, STATES))

    def forward(self, x):
        with pyro.plate("data", len(x), dim=-1):
            counts = nn.functional.one_hot(x, 6).sum(1).to(self.log_rate.dtype)
            pyro.sample("theta", dist.Dirichlet((counts @ self.log_rate.exp()) + 0.5))


class Nested(nn.Module):
    """c for each datum, u for each of its pixels given c, and one more site that looks at c alone."""

    def __init__(self):
        super().__init__()
        self.c, self.u = nn.Parameter(torch.randn(2)), nn.Parameter(torch.randn(2, STATES))
        self.loc, self.y = nn.Parameter(torch.randn(2, STATES)), nn.Parameter(torch.randn(2))

    def forward(self, x, y):
        with pyro.plate("data", len(x), dim=-1):
            c = pyro.sample("c", dist.Categorical(logits=self.c))
            with pyro.plate("pixels", x.shape[1], dim=-2):
                u = pyro.sample("u", dist.Categorical(logits=self.u[c]))
                pyro.sample("x", dist.Normal(self.loc[c, u], 1.0), obs=x.T)
            pyro.sample("y", dist.Normal(self.y[c], 1.0), obs=y)

    def log_evidence(self, x, y):
        """By every combination of c and of all pixels' u."""
        log_c, log_u, terms = self.c.log_softmax(0), self.u.log_softmax(-1), []
        pixels = torch.arange(x.shape[1])
        for c in range(2):
            for u in itertools.product(range(STATES), repeat=x.shape[1]):
                index = torch.tensor(u)
                term = log_c[c] + log_u[c, index].sum() + dist.Normal(self.y[c], 1.0).log_prob(y)
                terms.append(term + dist.Normal(self.loc[c, index], 1.0).log_prob(x[:, pixels]).sum(-1))
        return torch.logsumexp(torch.stack(terms), 0)
