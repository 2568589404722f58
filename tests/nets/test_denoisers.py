"""Denoisers: the best guess for standard normal data at the start, any leading dims, each datum by itself."""

from __future__ import annotations

import pytest
import torch

from ppl_vae import nets

NETS = {
    "mlp": (lambda: nets.MLPDenoiser((2, 3), (8,)), (2, 3)),
    "conv": (lambda: nets.ConvDenoiser((1, 8, 8), channels=4, num_blocks=2), (1, 8, 8)),
}
every_net = pytest.mark.parametrize("name", NETS)


def made(name, perturbed=True):
    torch.manual_seed(0)
    make, shape = NETS[name]
    net = make().double()
    for parameter in net.parameters() if perturbed else ():
        parameter.data.add_(0.1 * torch.randn_like(parameter))
    return net, torch.randn(3, 4, *shape).double()


@every_net
def test_it_starts_at_the_best_guess_for_standard_normal_data(name):
    net, z = made(name, perturbed=False)
    gamma = torch.tensor(1.3).double()
    torch.testing.assert_close(net(z, gamma), gamma.sigmoid().sqrt() * z)


@every_net
def test_any_leading_dims_and_levels_of_each_datum(name):
    net, z = made(name)
    gamma = torch.linspace(-5, 3, 4).double()
    whole = net(z, gamma)
    assert whole.shape == z.shape
    for k in range(3):
        for i in range(4):
            torch.testing.assert_close(net(z[k, i], gamma[i]), whole[k, i])
    assert not torch.allclose(net(z, gamma), net(z, gamma + 1))


@every_net
def test_every_parameter_has_a_gradient(name):
    net, z = made(name)
    net(z, torch.tensor(0.5).double()).square().sum().backward()
    assert all(bool((each.grad != 0).any()) for each in net.parameters())


def test_other_shapes_are_refused():
    with pytest.raises(ValueError, match=r"expects input of shape \(\*batch, 2, 3\)"):
        made("mlp")[0](torch.zeros(4, 3), torch.tensor(0.0))
    with pytest.raises(ValueError, match="halves the side"):
        nets.ConvDenoiser((1, 7, 8))
