"""The data that are made here: sprites, linear_gaussian, pinwheel, counts, and the bundled photographs."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from sklearn.datasets import load_sample_images

from ppl_vae.data import NAMED, DataError, Split, load, sprites, synthetic
from ppl_vae.data.named import Drawn

DRAWN = [name for name, known in NAMED.items() if isinstance(known, Drawn)]


def everything(data):
    parts = (data.train, data.valid, data.test)
    return torch.cat([part.tensors()[0] for part in parts]), torch.cat([part.factors for part in parts])


@pytest.mark.parametrize("name", DRAWN)
def test_as_many_as_are_wanted_by_the_seed(name):
    data = load(name, num_data=100, seed=3, binarise=None)
    assert [len(part) for part in (data.train, data.valid, data.test)] == [70, 10, 20]
    (x, factors), (again, _) = everything(data), everything(load(name, num_data=100, seed=3, binarise=None))
    assert torch.equal(x, again)
    assert not torch.equal(x, everything(load(name, num_data=100, seed=4, binarise=None))[0])
    assert factors.shape == (100, len(data.factor_names))
    assert factors.dtype == torch.float32
    assert data.shape == x.shape[1:]
    assert load(name).train.dtype == torch.float32
    assert len(load(name).train) == round(0.7 * NAMED[name].num_data)


@pytest.mark.parametrize("name", DRAWN)
def test_the_global_generators_are_left_alone(name):
    before = torch.get_rng_state(), np.random.get_state()[1].copy()  # noqa: NPY002
    load(name, num_data=20)
    assert torch.equal(before[0], torch.get_rng_state())
    assert (before[1] == np.random.get_state()[1]).all()  # noqa: NPY002


def test_factors_follow_their_rows():
    data = load("sprites", num_data=200, binarise=None)
    index = torch.tensor([5, 3, 3])
    part = data.train[index]
    assert torch.equal(sprites.render(part.factors).float() / 255, part.tensors()[0])
    assert torch.equal(part.factors, data.train.factors[index])
    assert part.take(1).to("cpu").factors.shape == (1, 5)
    assert torch.equal(part.labels, part.factors[:, 0].long())
    with pytest.raises(DataError, match="2 factors for 3 rows"):
        Split(part.rows, factors=torch.zeros(2, 1))


def test_sets_without_factors_say_so():
    digits = load("digits")
    assert digits.factor_names == ()
    assert digits.train.factors is None


# sprites


def area(factors, side=64):
    return sprites.render(factors, side, side).double().sum((1, 2, 3)) / 255 / side**2


def test_sprites_are_drawn_on_the_whole_grid():
    data = load("sprites", num_data=3000, binarise=None)
    factors = everything(data)[1]
    for column, values in zip(factors.T, sprites.levels()):
        assert torch.equal(column.unique(), values)
    assert data.factor_names == sprites.Levels._fields
    assert load("sprites", num_data=50).train.dynamic
    assert load("sprites", num_data=50, image_size=(20, 24)).shape == (1, 20, 24)


def test_areas_are_those_of_the_shapes():
    scale = torch.tensor([0.5, 0.8, 1.0])
    squares = torch.stack([torch.zeros(3), scale, torch.tensor([0.0, 0.3, 1.0]), scale, 1 - scale], 1)
    half = sprites.LARGEST * scale.double()
    torch.testing.assert_close(area(squares), 4 * half**2, rtol=0.01, atol=0)
    ellipses = squares.clone()
    ellipses[:, 0] = 1
    torch.testing.assert_close(area(ellipses), math.pi * 1.2 * 0.7 * half**2, rtol=0.01, atol=0)


def test_nothing_is_cut_off_at_the_border():
    corners = torch.cartesian_prod(
        torch.arange(3.0), torch.ones(1), torch.arange(8.0), *[torch.tensor([0.0, 0.5, 1.0])] * 2
    )
    areas = area(corners).reshape(3, -1)
    torch.testing.assert_close(areas, areas.mean(1, keepdim=True).expand_as(areas), rtol=0.01, atol=0)


def test_factors_do_what_they_say():
    still = torch.tensor([[2.0, 1.0, 0.0, 0.5, 0.5]])
    moved = still.clone()
    moved[0, 3], moved[0, 4] = 1.0, 0.0
    where = [
        (image[0] > 127).nonzero().double().mean(0) for image in sprites.render(torch.cat([still, moved]))
    ]
    assert where[1][1] > where[0][1] + 5  # x to the right
    assert where[1][0] < where[0][0] - 5  # y down
    turned = still.clone()
    turned[0, 2] = math.pi
    images = sprites.render(torch.cat([still, turned]), 33, 33)
    assert torch.equal(images[1], images[0].flip(-1, -2))
    upright = images[0, 0] > 127
    assert upright[:16].sum() > upright[17:].sum()  # a heart with its tip below
    assert torch.equal(upright, upright.flip(-1))


# Vectors


def test_linear_gaussian_has_the_moments_of_its_truth():
    truth = synthetic.linear_gaussian_truth(seed=5)
    x, z = (each.double() for each in everything(load("linear_gaussian", num_data=40_000, seed=5)))
    weight, bias = truth.weight.double(), truth.bias.double()
    residual = x - z @ weight.T - bias
    torch.testing.assert_close(residual.std(), torch.tensor(truth.scale).double(), rtol=0.01, atol=0)
    assert (residual.mean(0).abs() < 4.5 * truth.scale / 200).all()
    torch.testing.assert_close(z.T.cov(), torch.eye(3).double(), rtol=0, atol=0.05)
    wanted = weight @ weight.T + truth.scale**2 * torch.eye(10).double()
    assert ((x.T.cov() - wanted).abs() < 4.5 * (2 * wanted.diag().outer(wanted.diag()) / 40_000).sqrt()).all()
    assert not torch.equal(truth.weight, synthetic.linear_gaussian_truth(seed=6).weight)


def test_pinwheel_has_five_equal_arms():
    data = load("pinwheel", num_data=20_000)
    x, y = data.train.tensors()[0], data.train.labels
    turn = torch.tensor(2 * math.pi / 5)
    rotation = torch.stack([turn.cos(), turn.sin(), -turn.sin(), turn.cos()]).view(2, 2)
    means = torch.stack([x[y == arm].mean(0) for arm in range(5)])
    torch.testing.assert_close(means @ rotation, means.roll(-1, 0), rtol=0, atol=0.06)
    torch.testing.assert_close(x.norm(dim=1), 2 * data.train.factors.norm(dim=1))


def test_counts_are_overdispersed_and_whole():
    data = load("counts", num_data=20_000)
    x, z = everything(data)
    assert torch.equal(x, x.round())
    assert x.min() == 0
    # by the law of total variance at one place of the latent: variance = mean + mean^2 / total count
    near = (z - torch.tensor([1.5, 0.0])).norm(dim=1) < 0.2
    mean, variance = x[near].double().mean(0), x[near].double().var(0)
    assert 0.15 < ((variance - mean) / mean**2).median() < 0.3
    assert data.train.labels.unique().tolist() == [0, 1, 2, 3]


@pytest.mark.parametrize("name", ["linear_gaussian", "pinwheel", "counts"])
def test_vectors_have_no_image_size(name):
    with pytest.raises(DataError, match=f"{name} holds vectors"):
        load(name, image_size=8)


# Photographs


def test_patches_are_the_pixels_of_the_photographs():
    data = load("patches", labels=True)
    assert repr(data) == "DataSet('patches', train=5936, valid=848, test=1696, shape=(3, 8, 8))"
    x, y = (
        torch.cat(each) for each in zip(*(part.tensors() for part in (data.train, data.valid, data.test)))
    )
    wanted = [image[:424] for image in load_sample_images().images]
    for label, image in enumerate(wanted):
        mean = torch.from_numpy(image / 255).mean((0, 1)).float()
        torch.testing.assert_close(x[y == label].mean((0, 2, 3)), mean)
    corner = torch.from_numpy(wanted[1][:8, 8:16].copy()).permute(2, 0, 1) / 255
    assert (x[y == 1] == corner).all((1, 2, 3)).sum() >= 1
    assert not data.train.dynamic


def test_patches_of_another_size():
    assert load("patches", image_size=(20, 32)).shape == (3, 20, 32)
    with pytest.raises(DataError, match="give smaller patches"):
        load("patches", image_size=500)


# Errors


@pytest.mark.parametrize("number", [0, -3, 2.5, True])
def test_a_number_of_data_that_is_none(number):
    with pytest.raises(DataError, match="num_data must be a positive whole number"):
        load("pinwheel", num_data=number)


def test_too_few_data():
    with pytest.raises(DataError, match="leave the valid part empty"):
        load("pinwheel", num_data=3)


def test_sets_that_are_read_have_the_number_they_have(tmp_path):
    with pytest.raises(DataError, match=r"digits is not drawn but read.*Drawn are sprites"):
        load("digits", num_data=10)
    np.save(tmp_path / "x.npy", np.zeros((9, 2)))
    with pytest.raises(DataError, match="is not drawn"):
        load(tmp_path / "x.npy", num_data=10)


def test_a_wrong_seed():
    with pytest.raises(DataError, match=r"seed must be .* got -1"):
        load("pinwheel", seed=-1)
