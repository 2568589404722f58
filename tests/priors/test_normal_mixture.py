"""The mixture's density and draws, against torch's own mixture and against moments."""

from __future__ import annotations

import pytest
import torch
from torch.distributions import Categorical, Independent, MixtureSameFamily, Normal

from ppl_vae.priors import NormalMixture
from tests.conftest import SIGMAS


def both(components=6, latent_dim=3, weighted=True, narrow=1.0, dtype=torch.float64):
    loc = torch.randn(components, latent_dim, dtype=dtype, requires_grad=True)
    scale = (narrow * (0.2 + torch.rand(components, latent_dim, dtype=dtype))).detach().requires_grad_()
    logits = torch.randn(components, dtype=dtype, requires_grad=True) if weighted else None
    even = torch.zeros(components, dtype=dtype)
    theirs = MixtureSameFamily(
        Categorical(logits=logits if weighted else even), Independent(Normal(loc, scale), 1)
    )
    return NormalMixture(loc, scale, logits), theirs, [t for t in (loc, scale, logits) if t is not None]


@pytest.mark.parametrize("weighted", [True, False])
def test_density_and_gradients_are_those_of_torchs_mixture(weighted):
    ours, theirs, parameters = both(weighted=weighted)
    z = torch.randn(4, 5, 3, dtype=torch.float64, requires_grad=True)
    torch.testing.assert_close(ours.log_prob(z), theirs.log_prob(z))
    gradients = [
        torch.autograd.grad(p.log_prob(z).square().sum(), [z, *parameters])
        for p in (ours.expand((5,)), theirs)
    ]
    for mine, reference in zip(*gradients, strict=True):
        torch.testing.assert_close(mine, reference)


def test_moments_are_those_of_torchs_mixture():
    ours, theirs, _ = both()
    torch.testing.assert_close(ours.mean, theirs.mean)
    torch.testing.assert_close(ours.variance, theirs.variance)
    assert ours.expand((2, 5)).mean.shape == (2, 5, 3)


def test_narrow_components_far_out_keep_their_digits_in_float32():
    ours, _, parameters = both(narrow=1e-3, dtype=torch.float32)
    z = (parameters[0] + parameters[1] * torch.randn(6, 3)).detach()
    wide = NormalMixture(*(p.detach().double() for p in parameters)).log_prob(z.double())
    # as a float32 product the exponents, of the size (m / s)^2 = 10^6, would be off by a tenth and more
    torch.testing.assert_close(ours.log_prob(z).double(), wide, rtol=0, atol=2e-5)


def test_one_mixture_serves_every_batch_shape():
    ours, _, _ = both()
    wide = ours.expand((7, 5))
    assert (wide.batch_shape, wide.event_shape) == ((7, 5), (3,))
    assert wide.loc is ours.loc
    assert wide.log_prob(torch.zeros(3, dtype=torch.float64)).shape == (7, 5)
    assert wide.expand((2, 7, 5)).sample().shape == (2, 7, 5, 3)
    assert wide((4,)).shape == (4, 7, 5, 3)
    assert ours.to_event(0).sample((9,)).shape == (9, 3)


def test_draws_have_the_moments():
    ours, _, _ = both()
    n = 20_000
    z = ours.sample((n,))
    error = (ours.variance / n).sqrt()
    assert ((z.mean(0) - ours.mean).abs() < SIGMAS * error).all()
    fourth = (z - ours.mean).pow(4).mean(0)
    error = ((fourth - ours.variance.square()) / n).sqrt()
    assert ((z.var(0) - ours.variance).abs() < SIGMAS * error).all()


def test_draws_are_reparameterised_where_the_weights_are_fixed():
    ours, _, (loc, scale) = both(weighted=False)
    assert ours.has_rsample
    assert not both(weighted=True)[0].has_rsample
    n = 20_000
    z = ours.rsample((n,))
    # d/dm E[z_j^2] = 2 m / C, and d/ds = 2 s / C
    gradients = torch.autograd.grad(z.square().mean(0).sum(), [loc, scale])
    for gradient, parameter in zip(gradients, (loc, scale), strict=True):
        expected = 2 * parameter / 6
        # sqrt(E[(2 z)^2] / C / n) bounds the standard error of either
        error = (4 * (loc.square() + 3 * scale.square()) / 6 / n).sqrt() * 2
        assert ((gradient - expected).abs() < SIGMAS * error).all()


def test_mistakes():
    with pytest.raises(ValueError, match=r"got shapes \[\(3, 2\), \(3, 1\), None\]"):
        NormalMixture(torch.zeros(3, 2), torch.ones(3, 1))
    with pytest.raises(ValueError, match=r"\(2,\)\]"):
        NormalMixture(torch.zeros(3, 2), torch.ones(3, 2), torch.zeros(2))
    with pytest.raises(ValueError, match="scale"):
        NormalMixture(torch.zeros(3, 2), -torch.ones(3, 2))
