"""Parts one after the other: their densities multiply to the whole's, and each is the conditional one."""

from __future__ import annotations

import pyro.distributions as dist
import pytest
import torch

from ppl_vae import priors
from ppl_vae.core.succession import succession
from ppl_vae.distributions.chain import NormalChain
from ppl_vae.priors.normal_mixture import NormalMixture


def factor(size: int, *batch: int) -> torch.Tensor:
    raw = torch.randn(*batch, size, size, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    return raw.tril(-1) + (0.3 + raw.diagonal(dim1=-2, dim2=-1).abs()).diag_embed()


def codes():
    torch.manual_seed(2)
    prior = priors.Autoregressive(num_codes=3, num_values=4, hidden=5).double()
    with torch.no_grad():
        prior.output.weight.normal_()
    return prior().expand((2,))


def chain():
    there = torch.tensor([[True, True, True], [True, False, False]])
    context = torch.randn(2, 3, 1, generator=torch.Generator().manual_seed(3), dtype=torch.float64)
    start = torch.tensor([0.3, -1.0], dtype=torch.float64)
    return NormalChain(lambda z, c: (0.5 * z.flip(-1) + c, (z + c).square() + 0.2), start, 3, there, context)


DISTRIBUTIONS = {
    "full covariance": lambda: dist.MultivariateNormal(torch.arange(4.0).double(), scale_tril=factor(4, 2)),
    "expanded": lambda: dist.MultivariateNormal(torch.zeros(3).double(), scale_tril=factor(3)).expand((5,)),
    "low rank": lambda: dist.LowRankMultivariateNormal(
        torch.ones(4).double(), factor(4, 2)[..., :2], torch.full((4,), 0.5, dtype=torch.float64)
    ),
    "mixture": lambda: NormalMixture(
        factor(5)[:, :3], 0.5 + factor(5)[:, 2:].abs(), torch.arange(5.0).double()
    ).expand((2,)),
    "chain": chain,
    "codes": codes,
}


@pytest.mark.parametrize("name", DISTRIBUTIONS)
def test_the_parts_multiply_to_the_whole(name):
    fn = DISTRIBUTIONS[name]()
    found = succession(fn)
    value = fn.sample()
    place = value.dim() - len(fn.event_shape)
    total = torch.zeros(fn.batch_shape, dtype=torch.float64)
    for number in range(found.num_parts):
        part = found.following(value.narrow(place, 0, number))
        density = part.log_prob(value.select(place, number))
        assert part.batch_shape[: len(fn.batch_shape)] == fn.batch_shape
        total = total + density.reshape(*fn.batch_shape, -1).sum(-1)
    torch.testing.assert_close(total, fn.log_prob(value), rtol=1e-10, atol=1e-10)
    assert found.first().batch_shape == found.following(value.narrow(place, 0, 0)).batch_shape


def test_a_mixtures_conditional_is_its_ratio_of_densities():
    """p(z_2 | z_1) on a grid, from the joint density and the first part's."""
    mixture = DISTRIBUTIONS["mixture"]().expand((201,))
    first = torch.full((201,), 0.4, dtype=torch.float64)
    second, third = torch.linspace(-8, 8, 201, dtype=torch.float64), torch.linspace(-9, 9, 4001).double()
    step = float(third[1] - third[0])
    points = torch.stack(
        [first[:, None].expand(-1, 4001), second[:, None].expand(-1, 4001), third.expand(201, -1)], -1
    )
    whole = NormalMixture(mixture.loc, mixture.scale, mixture.logits)
    joint = whole.log_prob(points).exp().sum(-1) * step  # p(z_1, z_2)
    given = joint / (joint.sum() * float(second[1] - second[0]))
    part = succession(mixture).following(first.unsqueeze(-1))
    torch.testing.assert_close(part.log_prob(second).exp(), given, rtol=1e-3, atol=1e-5)


def test_what_has_no_such_form():
    assert succession(dist.Normal(torch.zeros(3), 1.0).to_event(1)) is None
    assert succession(dist.Dirichlet(torch.ones(3))) is None
