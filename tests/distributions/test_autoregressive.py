"""Pixels one after the other: densities that sum to one, an order that holds, draws that follow them."""

from __future__ import annotations

import copy
import itertools
import math
import pickle

import pytest
import torch
from torch import nn

from ppl_vae import likelihoods, nets
from ppl_vae.distributions.autoregressive import Autoregressive
from tests.conftest import SIGMAS

BINARY = likelihoods.Bernoulli()


def random_net(shape, raw_channels, channels=6, **options):
    """A net whose outputs depend on all that it sees; a new one's do not depend on x."""
    with torch.random.fork_rng():
        torch.manual_seed(3)
        net = nets.PixelCNN(shape, raw_channels, channels, **options).eval()
        with torch.no_grad():
            for parameter in net.parameters():
                parameter.copy_(torch.randn_like(parameter) / parameter[0].numel() ** 0.5)
    return net


def pixels(likelihood, shape, batch=(), **options):
    raw_channels = likelihood.raw_shape(shape)[0]
    net = random_net(shape, raw_channels, **options).to(torch.get_default_dtype())
    return Autoregressive(net, likelihood, torch.randn(*batch, raw_channels, *shape[1:]))


def every_image(shape, values):
    numbers = itertools.product(values, repeat=math.prod(shape))
    return torch.tensor(list(numbers)).reshape(-1, 1, *shape)


class WithoutCanvas(nn.Module):
    """A net of someone else's."""

    def __init__(self, net):
        super().__init__()
        self.net, self.raw_channels = net, net.raw_channels
        self.eval()

    def forward(self, x, context):
        return self.net(x, context)


class SeesItself(WithoutCanvas):
    """One whose raw output at a pixel knows the pixel."""

    def forward(self, x, context):
        return self.net(x, context) + x


@pytest.mark.parametrize(
    ("likelihood", "shape", "values"),
    [
        (BINARY, (1, 3, 3), (0.0, 1.0)),
        (BINARY, (3, 1, 3), (0.0, 1.0)),
        (likelihoods.Categorical(3), (2, 2, 1), (0, 1, 2)),
        (likelihoods.DiscretisedLogisticMixture(2, levels=3), (1, 2, 2), (0.0, 0.5, 1.0)),
    ],
)
def test_the_probabilities_of_all_images_sum_to_one(likelihood, shape, values, double):
    p = pixels(likelihood, shape, batch=(4,), dilations=(1, 1))
    images = every_image(shape, values).expand(-1, 4, *shape)
    log_prob = p.log_prob(images)
    torch.testing.assert_close(log_prob.logsumexp(0), torch.zeros(4), rtol=0, atol=1e-12)
    assert log_prob.std() > 0.1


def test_the_probabilities_of_a_net_that_sees_the_pixel_itself_do_not(double):
    p = pixels(BINARY, (1, 3, 3))
    p.net = SeesItself(p.net)
    total = p.log_prob(every_image((1, 3, 3), (0.0, 1.0))).logsumexp(0)
    assert total.abs() > 0.1
    with pytest.raises(
        RuntimeError, match=r"SeesItself: raw outputs of drawn images are others .* no density"
    ):
        p.sample((20,))


def jacobian(net, shape):
    """Of the raw output by x, both in the order in which pixels and colours are drawn."""
    x, context = torch.rand(shape), torch.randn(net.raw_channels, *shape[1:])
    of = torch.autograd.functional.jacobian(lambda x: net(x, context), x)
    size = math.prod(shape)
    return of.permute(1, 2, 0, 4, 5, 3).reshape(size, size)


@pytest.mark.parametrize("colours", [1, 3])
def test_what_comes_later_is_not_seen_and_all_that_came_before_is(colours, double):
    shape = (colours, 4, 5)
    net = random_net(shape, colours, dilations=(1, 2), first_kernel=3, channels=7)
    found = jacobian(net, shape)
    assert (found.triu() == 0).all(), "neither the pixel itself, through the residual blocks, nor later ones"
    assert (found.tril(-1) != 0).sum() == found.numel() / 2 - len(found) / 2, "no blind spot"


def test_a_small_reach_sees_so_far_and_no_farther(double):
    net = random_net((1, 7, 9), 1, dilations=(1, 1), first_kernel=3)
    seen = jacobian(net, (1, 7, 9))[5 * 9 + 4].reshape(7, 9) != 0
    assert seen.any(0).nonzero().flatten().tolist() == list(range(1, 8)), "1 + 1 + 1 to each side"
    assert seen[5].nonzero().flatten().tolist() == [1, 2, 3]
    assert seen.any(1).nonzero().flatten().tolist() == [1, 2, 3, 4, 5], "and one row more above"


def test_images_are_drawn_as_often_as_they_are_likely(double):
    p, count = pixels(BINARY, (1, 2, 2), dilations=(1,)), 20_000
    images = every_image((1, 2, 2), (0.0, 1.0)).squeeze(1)
    expected = p.log_prob(images).exp()
    drawn = (p.sample((count,))[:, None] == images).flatten(2).all(-1).double().mean(0)
    error = (expected * (1 - expected) / count).sqrt()
    assert ((drawn - expected).abs() < SIGMAS * error).all()
    assert expected.max() > 2 * expected.min()


@pytest.mark.parametrize(
    ("likelihood", "colours"),
    [
        (BINARY, 1),
        (likelihoods.Categorical(256), 3),
        (likelihoods.DiscretisedLogisticMixture(2), 2),
    ],
)
def test_kept_activations_give_every_bit_of_what_the_whole_net_gives(likelihood, colours):
    kept = pixels(likelihood, (colours, 6, 5), batch=(3,), dilations=(1, 2))
    anew = Autoregressive(WithoutCanvas(kept.net), likelihood, kept.context)
    drawn = []
    for p in (kept, anew):
        torch.manual_seed(1)
        drawn.append(p.sample((2,)))
    assert torch.equal(*drawn)
    assert drawn[0].shape == (2, 3, colours, 6, 5)
    likelihood.check(drawn[0])
    assert drawn[0].float().std() > 0


def test_particles_meet_data_and_draws(double):
    p = pixels(BINARY, (1, 3, 4), batch=(2, 5))
    x = p.sample((3,))
    assert x.shape == (3, 2, 5, 1, 3, 4)
    together = p.log_prob(x)
    for k, i in itertools.product(range(2), range(5)):
        alone = Autoregressive(p.net, BINARY, p.context[k, i])
        torch.testing.assert_close(together[:, k, i], alone.log_prob(x[:, k, i]))
    torch.testing.assert_close(p.log_prob(x[0, 0]), p.log_prob(x[0, 0].expand(2, 5, 1, 3, 4)))
    wide = p.expand((3, 2, 5))
    assert (wide.batch_shape, wide.event_shape) == ((3, 2, 5), (1, 3, 4))
    torch.testing.assert_close(wide.log_prob(x), together)
    assert p.expand((0, 2, 5)).sample().shape == (0, 2, 5, 1, 3, 4)


def test_it_has_no_mean_and_says_what_its_values_are():
    p = pixels(likelihoods.Categorical(3), (1, 2, 2))
    with pytest.raises(NotImplementedError):
        _ = p.mean
    assert p.support.is_discrete
    assert p.support.event_dim == 3
    assert p.support.check(torch.tensor([[[0, 1], [2, 0]]]))
    assert not p.support.check(torch.tensor([[[0, 1], [3, 0]]]))


def test_wrong_data_are_named():
    p = pixels(BINARY, (1, 2, 2))
    with pytest.raises(ValueError, match=r"likelihoods\.Bernoulli: data must be 0 or 1, found nan"):
        p.log_prob(torch.full((1, 2, 2), torch.nan))
    with pytest.raises(ValueError, match=r"expects input of shape \(\*batch, 1, 2, 2\), got \(2, 2\)"):
        p.log_prob(torch.zeros(2, 2))


def test_copied_and_pickled():
    p = pixels(BINARY, (1, 2, 2))
    p = Autoregressive(p.net, BINARY, p.context.detach())
    x = p.sample()
    for twin in (copy.deepcopy(p), pickle.loads(pickle.dumps(p))):
        assert torch.equal(twin.log_prob(x), p.log_prob(x))


def test_gradients_are_those_of_the_density(double):
    p = pixels(BINARY, (1, 3, 3), batch=(2,), dilations=(1,))
    x, context = p.sample(), p.context.requires_grad_()
    assert torch.autograd.gradcheck(lambda each: Autoregressive(p.net, BINARY, each).log_prob(x), context)
