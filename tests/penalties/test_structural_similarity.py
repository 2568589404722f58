"""Structural similarity: torchmetrics' numbers, a gradient, and what is refused."""

from __future__ import annotations

import pytest
import torch

from ppl_vae.penalties import MSSSIM, ms_ssim
from tests.penalties.programs import particles

metrics = pytest.importorskip("torchmetrics.functional.image")


def images(side, channels=1, seed=0):
    generator = torch.Generator().manual_seed(seed)
    x = torch.rand(3, channels, side, side, generator=generator, dtype=torch.float64)
    return x, (x + 0.2 * torch.rand(x.shape, generator=generator, dtype=torch.float64)).clamp(max=1)


def of_torchmetrics(x, y, weights, sigma, data_range=1.0):
    """The same from torchmetrics' parts; its own mean has windows beyond the edges too, mirrored."""
    edge, found = int(3.5 * sigma + 0.5), torch.ones(len(x), dtype=x.dtype)
    for number, weight in enumerate(weights):
        if number:
            x, y = (torch.nn.functional.avg_pool2d(each, 2) for each in (x, y))
        options = {"sigma": sigma, "data_range": data_range, "reduction": "none"}
        if number == len(weights) - 1:
            _, whole = metrics.structural_similarity_index_measure(x, y, return_full_image=True, **options)
            value = whole[..., edge:-edge, edge:-edge].flatten(1).mean(1)
        else:
            _, value = metrics.structural_similarity_index_measure(
                x, y, return_contrast_sensitivity=True, **options
            )
        found = found * value**weight
    return found


@pytest.mark.parametrize(
    ("side", "channels", "weights", "sigma", "data_range"),
    [
        (11, 1, (1.0,), 1.5, 1.0),
        (20, 3, (1.0,), 1.5, 2.0),
        (28, 1, (0.3, 0.4, 0.3), 0.5, 1.0),
        (24, 3, (0.4, 0.6), 1.5, 1.0),
    ],
)
def test_it_is_that_of_torchmetrics(side, channels, weights, sigma, data_range):
    x, y = images(side, channels)
    theirs = of_torchmetrics(x, y, weights, sigma, data_range)
    torch.testing.assert_close(ms_ssim(x, y, weights, sigma, data_range), theirs)
    assert (theirs < 0.99).all()


def test_equal_images_are_as_similar_as_can_be_and_the_gradient_is_the_derivative():
    x, y = images(12)
    torch.testing.assert_close(ms_ssim(x, x, (0.5, 0.5), 0.5), torch.ones(3, dtype=torch.float64))
    y.requires_grad_()
    assert torch.autograd.gradcheck(lambda each: ms_ssim(x[:1], each, (0.5, 0.5), 0.5), y[:1])
    flat = torch.zeros(2, 1, 12, 12, requires_grad=True)
    ms_ssim(flat, 1 - flat.detach(), (0.5, 0.5), 0.5).sum().backward()
    assert flat.grad.isfinite().all()


def test_the_penalty_is_what_is_lacking_to_one():
    drawn = particles(num_particles=2)
    node = drawn.model_trace.nodes["x"]
    mean, x = node["fn"].mean, node["value"]
    wanted = torch.stack([ms_ssim(each, x, (1.0,)) for each in mean]).mean()
    penalty = MSSSIM(weight=10.0).penalty("x", drawn, 8)
    torch.testing.assert_close(penalty(drawn), 10 * (1 - wanted))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"weight": -1.0}, "weight must be a finite number >= 0"),
        ({"sigma": 0.0}, "sigma must be a positive number"),
        ({"data_range": float("inf")}, "data_range must be a positive number"),
        ({"scales": 6}, "scales must be from 1 to 5, got 6"),
    ],
)
def test_what_makes_no_sense_is_refused(options, message):
    with pytest.raises(ValueError, match=message):
        MSSSIM(**options)


def test_sites_that_do_not_fit_are_refused():
    drawn = particles()
    with pytest.raises(ValueError, match=r"sigma=1.5 need images of 22 pixels, .* have 12"):
        MSSSIM(scales=2).penalty("x", drawn, 8)
    with pytest.raises(ValueError, match=r"extend over 1, and data_range is 0\.5: give data_range=1"):
        MSSSIM(data_range=0.5).penalty("x", drawn, 8)
