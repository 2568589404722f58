"""The discriminator: it learns a known density ratio, and the two trainings are kept apart."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from ppl_vae import Pair, guides, likelihoods, models, nets
from ppl_vae.penalties import Adversarial
from ppl_vae.penalties.discriminator import Discriminator, discriminator_loss
from tests.penalties.programs import SHAPE, images, particles


@pytest.mark.parametrize("shape", [(1, 8, 8), (3, 16, 16), (5,), (2, 3, 5)])
def test_any_data_have_a_discriminator(shape):
    logit, features = Discriminator(shape, 4)(torch.randn(7, *shape))
    assert (logit.shape, features.shape) == ((7,), (7, 32))


def test_it_learns_the_logarithm_of_a_density_ratio():
    """Of N(1, 1) against N(0, 1), drawn alike by both kinds of pictures: x - 1/2."""
    net = Discriminator((1,), 4)
    optimizer = torch.optim.Adam(net.parameters(), lr=1e-2)
    for _ in range(300):
        x, again, drawn = 1 + torch.randn(500, 1), torch.randn(500, 1), torch.randn(500, 1)
        optimizer.zero_grad()
        discriminator_loss(net, x, again, drawn).backward()
        optimizer.step()
    at = torch.tensor([[-0.5], [0.5], [1.5]])
    torch.testing.assert_close(net(at)[0].detach(), at[:, 0] - 0.5, rtol=0, atol=0.25)


def test_the_value_is_that_of_the_formula():
    drawn = particles()
    penalty = Adversarial(weight=3.0, feature_weight=0.5, channels=2).penalty("x", drawn, 8)
    node = drawn.model_trace.nodes["x"]
    torch.manual_seed(0)
    own = penalty.drawn(drawn)
    assert own.shape == (8, *SHAPE)
    penalty.discriminator.eval()
    (told, features), (made, _) = penalty.discriminator(node["fn"].mean), penalty.discriminator(own)
    wanted = -1.5 * (told.sigmoid().log().mean() + made.sigmoid().log().mean())
    squares = (features - penalty.discriminator(node["value"])[1]).square().sum(-1)
    torch.manual_seed(0)
    torch.testing.assert_close(penalty(drawn), wanted + 0.25 * squares.mean())


def test_the_discriminator_is_as_steep_as_one_and_no_steeper():
    net = Discriminator((1, 8, 8), 2)
    with torch.no_grad():
        for each in net.parameters():
            each.mul_(30)
        for _ in range(30):  # power iterations
            net(torch.randn(4, 1, 8, 8))
    for layer in (each for each in net.eval().modules() if isinstance(each, nn.Linear | nn.Conv2d)):
        assert torch.linalg.matrix_norm(layer.weight.detach().flatten(1), 2) == pytest.approx(1, abs=1e-2)


def test_the_pairs_loss_moves_the_pair_and_not_the_discriminator():
    of = Pair(
        models.VAE(likelihoods.Bernoulli(), nets.MLPDecoder(2, SHAPE, (8,)), 2),
        guides.MeanField(nets.MLPEncoder(SHAPE, 2, (8,))),
    )
    drawn = particles(of)
    penalty = Adversarial(channels=2, learning_rate=1e-3).penalty("x", drawn, 8)
    penalty(drawn).backward()
    gradients = [each.grad.clone() for each in of.parameters()]
    assert all(bool(each.abs().sum() > 0) for each in gradients), "of the model and of the guide"
    assert all(each.grad is None for each in penalty.parameters())
    before = [each.clone() for each in penalty.parameters()]
    penalty.learn()
    assert any(not torch.equal(new, old) for new, old in zip(penalty.parameters(), before, strict=True))
    assert all(torch.equal(each.grad, old) for each, old in zip(of.parameters(), gradients, strict=True))


def test_what_makes_no_sense_is_refused():
    with pytest.raises(ValueError, match="weight must be a finite number >= 0"):
        Adversarial(weight=-1.0)
    with pytest.raises(ValueError, match="learning_rate must be a positive number"):
        Adversarial(learning_rate=0.0)
    with pytest.raises(ValueError, match="channels must be a positive integer"):
        Adversarial(channels=0)
    without = Pair(
        models.Autoencoder(likelihoods.Bernoulli(), nets.MLPDecoder(2, SHAPE, (8,)), 2),
        guides.Deterministic(nets.MLPEncoder(SHAPE, 2, (8,))),
    )
    with pytest.raises(ValueError, match=r"no prior over \['z'\] to draw pictures from"):
        Adversarial().penalty("x", particles(without, images()), 8)
