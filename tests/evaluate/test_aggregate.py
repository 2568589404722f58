"""The density of draws under the aggregate posterior, against mixtures that torch can write down."""

from __future__ import annotations

import pyro.distributions as dist
import pytest
import torch
from torch.distributions import Categorical, MixtureSameFamily, Normal

from ppl_vae.evaluate import aggregate, batches
from ppl_vae.evaluate.loop import progress_bar


def log_aggregate(guides, z, num_data):
    with progress_bar(1, "", "", False) as bar:
        return aggregate.log_aggregate(guides, z, num_data, bar)


def split(fn_of, *parameters, sizes=(3, 2)):
    return [fn_of(*parts) for parts in zip(*(p.split(sizes) for p in parameters), strict=True)]


@pytest.mark.parametrize("elements", [1, 2**21])
def test_independent_normals(elements, double, monkeypatch):
    monkeypatch.setitem(batches.ELEMENTS, "cpu", elements)  # draws one at a time, and all at once
    loc, scale, z = torch.randn(5, 2), torch.rand(5, 2) + 0.2, torch.randn(4, 3, 2)
    guides = split(lambda m, s: dist.Normal(m, s).to_event(1), loc, scale)
    joint, single = log_aggregate(guides, z, 5)
    even = Categorical(torch.ones(5))
    expected = MixtureSameFamily(even, torch.distributions.Independent(Normal(loc, scale), 1)).log_prob(z)
    torch.testing.assert_close(joint, expected)
    for j in range(2):
        expected = MixtureSameFamily(even, Normal(loc[:, j], scale[:, j])).log_prob(z[..., j])
        torch.testing.assert_close(single[..., j], expected)


def test_normals_with_full_covariance(double):
    loc, root, z = torch.randn(5, 2), torch.randn(5, 2, 2), torch.randn(4, 3, 2)
    covariance = root @ root.mT + torch.eye(2)
    joint, single = log_aggregate(split(dist.MultivariateNormal, loc, covariance), z, 5)
    even = Categorical(torch.ones(5))
    expected = MixtureSameFamily(even, dist.MultivariateNormal(loc, covariance)).log_prob(z)
    torch.testing.assert_close(joint, expected)
    expected = MixtureSameFamily(even, Normal(loc[:, 1], covariance[:, 1, 1].sqrt())).log_prob(z[..., 1])
    torch.testing.assert_close(single[..., 1], expected)


def test_scalars_discrete_codes_and_unknown_marginals(double):
    loc, z = torch.randn(5), torch.randn(4, 3)
    joint, single = log_aggregate(split(lambda m: dist.Normal(m, 0.5), loc), z, 5)
    expected = MixtureSameFamily(Categorical(torch.ones(5)), Normal(loc, 0.5)).log_prob(z)
    torch.testing.assert_close(joint, expected)
    torch.testing.assert_close(single, expected.unsqueeze(-1))
    probability, bits = torch.rand(5, 2), torch.tensor([[[0.0, 1.0]]])
    joint, _ = log_aggregate(split(lambda p: dist.Bernoulli(p).to_event(1), probability), bits, 5)
    expected = ((1 - probability[:, 0]) * probability[:, 1]).mean().log()
    torch.testing.assert_close(joint[0, 0], expected)
    weight = torch.rand(5, 3) + 0.5
    joint, single = log_aggregate(split(dist.Dirichlet, weight), torch.full((1, 1, 3), 1 / 3), 5)
    assert single is None
    assert joint.isfinite().all()
