"""Attribute vectors against the linear-Gaussian posterior, whose mean code is linear in the data."""

from __future__ import annotations

import pyro
import pyro.distributions as dist
import pytest
import torch

import ppl_vae as pv
from ppl_vae import guides, likelihoods, models, nets, priors
from tests.oracle import make_pair

pytestmark = pytest.mark.usefixtures("double")


def groups(sizes=(30, 50)):
    generator = torch.Generator().manual_seed(0)
    one, two = (torch.randn(size, 5, generator=generator) for size in sizes)
    return one + torch.tensor([2.0, 0.0, -1.0, 0.0, 0.0]), two


def test_the_vector_is_the_difference_of_the_posterior_means():
    pair, (one, two) = make_pair().double(), groups()
    found = pv.attribute(pair, one, two)
    codes = [pair.model.posterior(each).mean.detach() for each in (one, two)]
    expected = codes[0].mean(0) - codes[1].mean(0)
    torch.testing.assert_close(found.vector, expected, rtol=1e-9, atol=1e-9)
    errors = (codes[0].var(0) / 30 + codes[1].var(0) / 50).sqrt()
    torch.testing.assert_close(found.standard_errors["z"], errors, rtol=1e-9, atol=1e-9)
    along = [each @ expected for each in codes]
    pooled = ((29 * along[0].var() + 49 * along[1].var()) / 78).sqrt()
    assert found.separation == pytest.approx(float((along[0].mean() - along[1].mean()) / pooled))
    assert "30 data against 50" in str(found)
    back = pv.attribute(pair, two, one)
    torch.testing.assert_close(back.vector, -expected, rtol=1e-9, atol=1e-9)


def test_strengths_move_the_decoded_mean_along_the_model():
    pair, (one, two) = make_pair().double(), groups()
    found, x = pv.attribute(pair, one, two), two[:4]
    draws = found.apply(pair, x, strength=(-1.0, 0.0, 2.5))
    assert draws.mean.shape == (3, 4, 5)
    code = pair.model.posterior(x).mean
    for strength, mean in zip((-1.0, 0.0, 2.5), draws.mean, strict=True):
        expected = (code + strength * found.vector) @ pair.model.weight.T + pair.model.bias
        torch.testing.assert_close(mean, expected, rtol=1e-9, atol=1e-9)
    torch.testing.assert_close(found.apply(pair, x, 2.5).mean, draws.mean[2], rtol=1e-9, atol=1e-9)


def number(x):
    """A latent that is one number, of data that are one number."""
    with pyro.plate("data", len(x), dim=-1):
        z = pyro.sample("z", dist.Normal(torch.zeros(()).to(x), 1.0))
        pyro.sample("x", dist.Normal(2 * z, 1.0), obs=x)


def number_guide(x):
    with pyro.plate("data", len(x), dim=-1):
        pyro.sample("z", dist.Normal(0.4 * x, 0.2**0.5))


def test_latents_that_are_single_numbers():
    pair, x = pv.Pair(number, number_guide), torch.tensor([0.0, 1.0, 3.0, 5.0, 6.0])
    found = pv.attribute(pair, x[2:], x[:2])
    expected = 0.4 * (x[2:].mean() - x[:2].mean())
    torch.testing.assert_close(found.vector, expected)
    pooled = ((2 * x[2:].var() + x[:2].var()) / 3).sqrt()
    assert found.separation == pytest.approx(float(expected / (0.4 * pooled)))
    torch.testing.assert_close(found.apply(pair, x, 0.5).mean, 2 * (0.4 * x + 0.5 * expected))
    # up x with the prior's weight 1: 2 - z = 0 at the best
    best = pv.optimise(pair, lambda mean: mean, x, steps=150, learning_rate=0.2, shell=False)
    torch.testing.assert_close(best.draws.latents["z"], torch.full((5,), 2.0), rtol=0, atol=1e-2)
    kept = pv.optimise(pair, lambda mean: mean, x, steps=20, prior_weight=0.0)
    assert not bool(kept.left.any())


def ladder():
    model = models.LadderVAE.dense(likelihoods.Bernoulli(1), (6,), (3, 2), ((5,), (4,)))
    return pv.Pair(model, guides.BottomUp.dense((6,), (3, 2), ((5,), (4,)))).double()


def test_one_site_of_several_moves_and_those_below_follow_the_model():
    pair, x = ladder(), (torch.rand(10, 6) > 0.5).double()
    every = pv.attribute(pair, x[:5], x[5:])
    assert set(every.vectors) == {"z1", "z2"}
    with pytest.raises(ValueError, match="there are vectors of"):
        _ = every.vector
    top = pv.attribute(pair, x[:5], x[5:], site="z2")
    assert set(top.vectors) == {"z2"}
    torch.testing.assert_close(top.vector, every.vectors["z2"])
    still, moved = (top.apply(pair, x, s, free=["z1"], seed=1).latents for s in (0.0, 3.0))
    torch.testing.assert_close(moved["z2"] - still["z2"], (3 * top.vector).expand(10, 2))
    assert not torch.equal(moved["z1"], still["z1"])


def test_labels_do_not_move():
    model = models.SemiSupervisedVAE(likelihoods.Bernoulli(1), nets.MLPDecoder(2 + 3, (6,)), 2, 3)
    guide = guides.SemiSupervised(nets.MLP(6, (5,), 3), torch.nn.Identity(), nets.MLPEncoder((6 + 3,), 2), 3)
    pair, x = pv.Pair(model, guide).double(), (torch.rand(10, 6) > 0.5).double()
    found = pv.attribute(pair, x[:5], x[5:])
    assert set(found.vectors) == {"z"}
    assert found.apply(pair, x, (0.0, 1.0)).mean.shape == (2, 10, 6)
    with pytest.raises(ValueError, match="site 'y' is discrete or shared"):
        pv.attribute(pair, x[:5], x[5:], site="y")


def test_positive_codes_stay_positive_or_a_refusal_says_so():
    model = models.VAE(likelihoods.Bernoulli(1), nets.MLPDecoder(2, (6,)), 2, priors.LogNormal(2))
    pair = pv.Pair(model, guides.LogNormal(nets.MLPEncoder((6,), 2))).double()
    x = (torch.rand(10, 6) > 0.5).double()
    found = pv.attribute(pair, x[:5], x[5:])
    assert bool((found.apply(pair, x, 0.01).latent > 0).all())
    with pytest.raises(ValueError, match=r"site 'z': its codes are > 0, .* take a smaller strength"):
        found.apply(pair, x, (0.0, 1e6))


def test_what_has_no_direction_is_refused():
    pair, (one, two) = make_pair().double(), groups()
    with pytest.raises(ValueError, match="no latent site 'w'"):
        pv.attribute(pair, one, two, site="w")
    with pytest.raises(ValueError, match="two data or more"):
        pv.attribute(pair, one[:1], two)
    found = pv.attribute(pair, one, two)
    for strength in ((), float("nan"), torch.zeros(2, 2).tolist(), "much", None):
        with pytest.raises(ValueError, match="strength must be"):
            found.apply(pair, one, strength)
    other = pv.Pair(models.LinearGaussian(2, 5), guides.MeanField(nets.MLPEncoder((5,), 2))).double()
    with pytest.raises(
        ValueError, match=r"the shape \[30, 2\], data included, and the vector \[3\] is of other"
    ):
        found.apply(other, one)


def test_rows_in_another_order_and_one_at_a_time():
    pair, (one, two) = make_pair().double(), groups()
    found, order = pv.attribute(pair, one, two), torch.randperm(30)
    torch.testing.assert_close(pv.attribute(pair, one[order], two).vector, found.vector)
    moved = found.apply(pair, one, (0.0, 2.0)).mean
    torch.testing.assert_close(found.apply(pair, one[order], (0.0, 2.0)).mean, moved[:, order])
    torch.testing.assert_close(found.apply(pair, one[3:4], (0.0, 2.0)).mean, moved[:, 3:4])
    assert found.apply(pair, one, torch.tensor(2.0)).mean.equal(moved[1])
    assert pv.attribute(pair, one, one).separation == 0
