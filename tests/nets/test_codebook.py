"""Codebooks: moving averages by hand, dead vectors, a training that goes on, and the captured step."""

from __future__ import annotations

import pytest
import torch

import ppl_vae as pv
from ppl_vae import estimators, kl, nets
from tests.capture.helpers import assert_same_steps, images, sgd
from tests.guides.test_vector_quantised import DIM, VALUES, make


def test_one_step_of_the_moving_averages():
    pair, x = make(moving=True, decay=0.9), images(6)
    book = pair.guide.codebook
    old = book.vectors.clone()
    pair.eval()
    pair.guide(x)
    assert torch.equal(book.vectors, old), "moved in eval mode"
    pair.train()
    with torch.no_grad():
        points = pair.guide.encoder(x)[0].reshape(-1, DIM)
        nearest = torch.cdist(points, old).argmin(-1)
        z = pair.guide(x)
    assert torch.equal(z.argmax(-1).flatten(), nearest)
    for value in range(VALUES):
        here = points[nearest == value]
        count = 0.9 + 0.1 * len(here)
        torch.testing.assert_close(book.counts[value], torch.tensor(count))
        torch.testing.assert_close(book.vectors[value], (0.9 * old[value] + 0.1 * here.sum(0)) / count)


def test_an_average_of_nothing_stays_where_it_was():
    book = nets.Codebook(2, 1, moving=True, decay=0.5).train()
    points, chosen = torch.zeros(3, 1), torch.tensor([[1.0, 0.0]]).expand(3, 2)
    before = book.vectors[1].clone()
    for _ in range(300):
        book.move(points, chosen)
    torch.testing.assert_close(book.vectors[1], before)


@pytest.mark.parametrize("moving", [True, False])
def test_dead_vectors_go_to_points_of_the_batch_by_the_seed(moving):
    points = torch.arange(10.0).view(5, 2)
    found = []
    for seed in (3, 3, 4):
        torch.manual_seed(0)
        book = nets.Codebook(4, 2, moving=moving, revive_below=0.1).train()
        old = book.vectors.detach().clone()
        book.counts.copy_(torch.tensor([8.0, 0.01, 8.0, 0.0]))
        torch.manual_seed(seed)
        book.revive(points)
        found.append(book.vectors.detach().clone())
        assert torch.equal(found[-1][[0, 2]], old[[0, 2]])
        assert all((row == points).all(-1).any() for row in found[-1][[1, 3]])
        torch.testing.assert_close(book.counts[[1, 3]], torch.full((2,), 16.01 / 4))
        if moving:
            torch.testing.assert_close(book.sums[1] / book.counts[1], book.vectors[1])
    assert torch.equal(found[0], found[1])
    assert not torch.equal(found[0], found[2])


@pytest.mark.parametrize("moving", [True, pytest.param(False, marks=pytest.mark.grid)])
def test_a_training_goes_on_bit_for_bit(moving, tmp_path):
    x = images(20)
    states = []
    for epochs in ((2,), (1, 2)):
        pair = make(moving=moving, decay=0.8, revive_below=0.5)
        path = tmp_path / str(len(epochs))
        for last in epochs:
            options = {"epochs": last, "batch_size": 5, "kl": kl.Commitment(), "capture": False}
            pv.fit(
                pair,
                estimators.MeanFieldELBO(),
                x,
                **options,
                run_dir=path,
                resume=last != epochs[0],
                progress=False,
            )
            pair = pv.load(path)
        states.append(pair.state_dict())
    assert all(torch.equal(value, states[1][name]) for name, value in states[0].items())
    start = make(moving=moving, decay=0.8, revive_below=0.5).guide.codebook
    assert not torch.equal(states[0]["guide.codebook.counts"], start.counts)


@pytest.mark.parametrize("moving", [True, pytest.param(False, marks=pytest.mark.grid)])
def test_a_captured_step_moves_and_revives_as_an_eager_one(moving):
    pair = make(moving=moving, decay=0.8, revive_below=0.5).double()
    assert_same_steps(pair, estimators.MeanFieldELBO(), [(images(8).double(),)], make=sgd, steps=4)
    assert not torch.equal(pair.guide.codebook.counts, torch.ones(VALUES, dtype=torch.float64))
