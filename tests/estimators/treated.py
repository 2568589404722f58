"""A small pair whose sites bear any scale and mask, and the exact gradients of its expected bounds."""

from __future__ import annotations

import itertools
import math
from contextlib import ExitStack

import numpy as np
import pyro
import pyro.distributions as dist
import torch
from pyro import poutine
from pyro.poutine.messenger import Messenger
from torch import nn

from ppl_vae import Pair

X = torch.tensor([0.7, -1.1], dtype=torch.float64)
MASK = torch.tensor([True, False])
SITES = {"discrete": "ac", "continuous": "bd", "mixed": "abc", "flat": "ae", "three": "abe", "apart": "ag"}
"""By kind of pair: a and e are bits, c two bits in an inner plate, b and d normal;
g a bit that looks at no other.
"""
NODES = 8

EVERY = ("model", "guide")
TREATMENTS = {
    "none": {},
    "all scaled": {(role, site): {"scale": 1.4} for role in EVERY for site in "abcdegx"},
    "guide scaled": {("guide", site): {"scale": 1.4} for site in "abcdeg"},
    "model scaled": {("model", site): {"scale": 0.5} for site in "abcdegx"},
    "one site scaled": {(role, site): {"scale": 0.3} for role in EVERY for site in "ab"},
    "a scale for each datum": {(role, site): {"scale": "tensor"} for role in EVERY for site in "abcdegx"},
    "all masked": {(role, site): {"mask": "tensor"} for role in EVERY for site in "abcdegx"},
    "guide masked": {("guide", site): {"mask": "tensor"} for site in "abcdeg"},
    "distributions masked": {(role, site): {"own": True} for role in EVERY for site in "abcdeg"},
    "guide's distributions masked": {("guide", site): {"own": True} for site in "abcdeg"},
    "one site without a term": {(role, site): {"mask": False} for role in EVERY for site in "ab"},
    "both": {
        (role, site): {"scale": 1.7, "mask": "tensor"} if site in "abx" else {"scale": 0.6, "own": True}
        for role in EVERY
        for site in "abcdegx"
    },
}


def density(role, site, v, x, p):
    """The distribution of one site given the others' values, each (..., 1 or 2, B)."""
    a, b, c, d, e, g = (v.get(name, torch.zeros(())) for name in "abcdeg")
    if role == "model":
        means = {"a": p[0], "b": p[1] * a, "c": p[2] + p[3] * a - b, "d": p[2] * b, "e": p[3] * a, "g": p[3]}
        bits = c.sum(-2, keepdim=True) if c.dim() else c
        means["x"] = p[4] * a + p[5] * b + p[1] * bits + p[3] * d + p[2] * e + p[1] * g
        scale = torch.tensor(4.0 if site == "x" else 1.2)
    else:
        means = {
            "a": p[0] + p[1] * x,
            "b": p[2] + p[0] * x + p[1] * a,
            "c": p[3] - p[1] * x + p[2] * a + p[4] * b,
            "d": p[3] * x + p[4] * b,
            "e": p[3] + p[2] * a,
            "g": p[3] + p[2] * x,
        }
        scale = (0.3 * p[5]).exp()
    if site in "aceg":
        return dist.Bernoulli(logits=means[site])
    return dist.Normal(means[site], scale)


def parts(site, mask):
    """(scale for each datum, mask) of a site; two rows where it stands in the inner plate."""
    scale = torch.where(mask, 1.5, 0.5)
    return (scale, torch.stack([mask, ~mask])) if site == "c" else (scale, mask)


class Program(nn.Module):
    def __init__(self, role, kind, treatment):
        super().__init__()
        self.role, self.kind, self.treatment = role, kind, treatment
        start = {"model": [0.4, 1.1, -0.6, 0.5, 0.9, 0.7], "guide": [-0.3, 0.6, 0.5, -0.4, 0.8, -0.5]}[role]
        self.p = nn.Parameter(torch.tensor(start, dtype=torch.float64))

    def sample(self, site, v, x, mask, **options):
        fn, told = density(self.role, site, v, x, self.p), self.treatment.get((self.role, site), {})
        scale, own = parts(site, mask)
        with ExitStack() as stack:
            if "mask" in told:
                stack.enter_context(poutine.mask(mask=own if told["mask"] == "tensor" else told["mask"]))
            if "scale" in told:
                stack.enter_context(
                    poutine.scale(scale=scale if told["scale"] == "tensor" else told["scale"])
                )
            if "own" in told:
                fn = fn.mask(own)
            return pyro.sample(site, fn, **options)

    def forward(self, x, mask):
        v = {}
        with pyro.plate("data", len(x), dim=-1):
            for site in SITES[self.kind]:
                with pyro.plate("inner", 2, dim=-2) if site == "c" else ExitStack():
                    v[site] = self.sample(site, v, x, mask)
            if self.role == "model":
                self.sample("x", v, x, mask, obs=x)


def make(kind, treatment):
    return Pair(Program("model", kind, TREATMENTS[treatment]), Program("guide", kind, TREATMENTS[treatment]))


class Given(Messenger):
    """Bits as they are given; normal sites at the given noise."""

    def __init__(self, values):
        super().__init__()
        self.values = values

    def _pyro_sample(self, msg):
        if msg["name"] not in self.values or msg["done"] or msg["is_observed"]:
            return
        fn, value = msg["fn"], self.values[msg["name"]]
        value = value.reshape(fn.batch_shape)
        while hasattr(fn, "base_dist"):
            fn = fn.base_dist
        msg["value"] = value if isinstance(fn, dist.Bernoulli) else fn.loc + fn.scale * value
        msg["done"] = True


def configurations(kind, num_particles, average_noise=True):
    """Every draw: by site (K, 1 or 2, R) values, and the weights (R,) of the noise among them.

    A gradient through the draws is right at each noise; only what rests on an average over it needs
    `average_noise`.
    """
    nodes, node_weights = np.polynomial.hermite_e.hermegauss(NODES)
    node_weights = node_weights / node_weights.sum()
    if not average_noise:
        nodes, node_weights = np.array([0.4]), np.array([1.0])
    slots, axes = [], []
    for k, site in itertools.product(range(num_particles), SITES[kind]):
        for row in range(2 if site == "c" else 1):
            slots.append((site, k, row))
            axes.append(nodes if site in "bd" else np.array([0.0, 1.0]))
    grid = np.stack([axis.ravel() for axis in np.meshgrid(*axes, indexing="ij")])
    values, weight = {}, np.ones(grid.shape[1])
    for (site, k, row), entries in zip(slots, grid):
        rows = values.setdefault(site, torch.empty(num_particles, 2 if site == "c" else 1, grid.shape[1]))
        rows[k, row] = torch.from_numpy(entries)
        if site in "bd":
            weight = weight * node_weights[np.searchsorted(nodes, entries)]
    return values, torch.from_numpy(weight)


def repeated(values, weight):
    """The configurations for each of the data in turn: values, weights, x, mask."""
    count = len(X)
    values = {site: value.repeat(1, 1, count) for site, value in values.items()}
    rows = weight.numel()
    return values, weight.repeat(count), X.repeat_interleave(rows), MASK.repeat_interleave(rows)


def exact(kind, treatment, bound, drawn, held=False):
    """Gradients (model, guide) of the expectation of `bound(log_weight, log_guide)`, (K, R) each to (R,).

    With `held` the draws and how likely they are do not move, as in wake-phi, which is a gradient and not
    that of an expectation.
    """
    pair = make(kind, treatment)
    values, weight, x, mask = repeated(*drawn)
    v, log_weight, scaled_guide, log_draw = {}, 0.0, 0.0, 0.0
    for site in SITES[kind]:
        guide = density("guide", site, v, x, pair.guide.p)
        v[site] = guide.loc + guide.scale * values[site] if site in "bd" else values[site]
        v[site] = v[site].detach() if held else v[site]
        if site not in "bd":
            log_draw = log_draw + guide.log_prob(v[site]).sum(-2).sum(0)
    for role, site in [(role, site) for site in (*SITES[kind], "x") for role in EVERY]:
        if (role, site) == ("guide", "x"):
            continue
        fn = density(role, site, v, x, getattr(pair, role).p)
        term = fn.log_prob(x if site == "x" else v[site])
        told = TREATMENTS[treatment].get((role, site), {})
        scale, own = parts(site, mask)
        term = term * (scale if told.get("scale") == "tensor" else told.get("scale", 1.0))
        if told.get("mask") is False:
            term = 0 * term
        if told.get("mask") == "tensor" or "own" in told:
            term = torch.where(own, term, 0.0)
        term = term.sum(-2)
        log_weight = log_weight + term if role == "model" else log_weight - term
        if role == "guide":
            scaled_guide = scaled_guide + term
    probability = weight * (log_draw.exp() if isinstance(log_draw, torch.Tensor) else 1.0)
    total = (probability.detach() if held else probability) * bound(log_weight, scaled_guide)
    return _gradients(total.sum(), pair)


def estimated(estimator, kind, treatment, drawn):
    """Gradients (model, guide) of an estimator, expected over every draw."""
    pair = make(kind, treatment)
    values, weight, x, mask = repeated(*drawn)
    with Given(values):
        particles = estimator.draw(pair.model, pair.guide, x, mask)
    bits = [particles.guide_trace.nodes[site] for site in SITES[kind] if site not in "bd"]
    log_draw = torch.zeros(particles.num_particles, len(x))
    for node in bits:
        fn = node["fn"]
        while hasattr(fn, "base_dist"):
            fn = fn.base_dist
        logits = fn.logits.expand(node["value"].shape).detach()
        log_draw += (
            dist.Bernoulli(logits=logits).log_prob(node["value"]).reshape(len(log_draw), -1, len(x)).sum(1)
        )
    probability = weight * log_draw.sum(0).exp()
    total = (probability * estimator.surrogate(particles)).sum()
    return _gradients(total, pair)


def _gradients(total, pair):
    gradients = torch.autograd.grad(total, [pair.model.p, pair.guide.p], allow_unused=True)
    return [torch.zeros(6) if g is None else g for g in gradients]


def log_mean_exp(values, dim=0):
    return values.logsumexp(dim) - math.log(values.shape[dim])
