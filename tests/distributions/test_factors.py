"""The single dimensions of a distribution."""

from __future__ import annotations

import pyro.distributions as dist
import torch
from torch.distributions import ExpTransform

from ppl_vae.distributions.factors import factors, marginals


def test_independent_dimensions_are_unwrapped():
    base = dist.Normal(torch.zeros(4, 3), 2.0)
    for fn in (base, base.to_event(1), base.to_event(2), base.to_event(1).to_event(1)):
        assert factors(fn).event_shape == ()
        assert factors(fn).batch_shape == (4, 3)
        assert marginals(fn) is factors(fn)
    elementwise = dist.TransformedDistribution(base, [ExpTransform()]).to_event(1)
    assert factors(elementwise).event_shape == ()


def test_the_marginals_of_a_normal_are_known():
    covariance = torch.tensor([[4.0, 1.0], [1.0, 9.0]])
    fn = dist.MultivariateNormal(torch.tensor([1.0, 2.0]), covariance)
    assert factors(fn) is None
    torch.testing.assert_close(marginals(fn).loc, torch.tensor([1.0, 2.0]))
    torch.testing.assert_close(marginals(fn).scale, torch.tensor([2.0, 3.0]))
    low_rank = dist.LowRankMultivariateNormal(torch.zeros(2), torch.tensor([[1.0], [2.0]]), torch.ones(2))
    torch.testing.assert_close(marginals(low_rank).scale, torch.tensor([2.0, 5.0]).sqrt())


def test_other_distributions_have_neither():
    for fn in (dist.Dirichlet(torch.ones(3)), dist.OneHotCategorical(torch.ones(3)).expand([2]).to_event(1)):
        assert factors(fn) is None
        assert marginals(fn) is None
