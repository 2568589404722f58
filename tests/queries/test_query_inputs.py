"""Inputs of questions: chosen by name, held where a site observes them,
and asked for where they are missing.
"""

from __future__ import annotations

import pyro
import pyro.distributions as dist
import pytest
import torch
from torch import nn

from ppl_vae import Pair, queries


class Labelled(nn.Module):
    """An observed label y, which x hangs on, and a shift that is no site."""

    def forward(self, x, y, shift):
        with pyro.plate("data", len(x), dim=-1):
            z = pyro.sample("z", dist.Normal(x.new_zeros(2), 1.0).to_event(1))
            label = pyro.sample("y", dist.Categorical(x.new_ones(4)), obs=y)
            loc = z + 10 * label.unsqueeze(-1) + 100 * shift
            return pyro.sample("x", dist.Normal(loc, 0.1).to_event(1), obs=x)


class Guide(nn.Module):
    def forward(self, x, y, shift):
        with pyro.plate("data", len(x), dim=-1):
            return pyro.sample("z", dist.Normal(x - 10 * y.unsqueeze(-1) - 100 * shift, 0.1).to_event(1))


class Latent(nn.Module):
    """A label that is drawn, whatever the argument of its name says."""

    def forward(self, x, y=None):
        with pyro.plate("data", len(x), dim=-1):
            y = pyro.sample("y", dist.Categorical(x.new_ones(4)))
            return pyro.sample("x", dist.Normal(10.0 * y, 0.1), obs=x)


class Renamed(nn.Module):
    """Its second argument is a site's data under another name, its third one a view of a site's."""

    def forward(self, images, marks, rows):
        with pyro.plate("data", len(images), dim=-1):
            pyro.sample("x", dist.Normal(0.0, 1.0).expand((2,)).to_event(1), obs=images)
            pyro.sample("m", dist.Normal(0.0, 1.0), obs=marks)
            with pyro.plate("row", 3, dim=-2):
                pyro.sample("r", dist.Normal(0.0, 1.0), obs=rows.T)


class Nameless(nn.Module):
    def forward(self, *batch):
        x = batch[0]
        with pyro.plate("data", len(x), dim=-1):
            return pyro.sample("x", dist.Normal(0.0, 1.0).expand((2,)).to_event(1), obs=x)


def make():
    batch = torch.randn(4, 2), torch.tensor([0, 1, 2, 3]), torch.zeros(4, 2)
    return Pair(Labelled(), Guide(), example=batch), batch


def test_a_chosen_label_is_held():
    pair, _ = make()
    shift = {"shift": 0.0}
    with pytest.raises(ValueError, match=r"inputs\['shift'\]: expected shape \(5, 2\), or \(2\) for all"):
        queries.sample(pair, 5, inputs=shift)
    shift = {"shift": torch.zeros(2)}
    draws = queries.sample(pair, 5, inputs={"y": 3, **shift}, seed=0)
    assert draws.values["y"].tolist() == [3] * 5
    torch.testing.assert_close(draws.means["x"], draws.latent + 30)
    each = queries.sample(pair, 3, inputs={"y": torch.tensor([2, 0, 1]), **shift}, seed=0)
    assert each.values["y"].tolist() == [2, 0, 1]
    drawn = queries.sample(pair, 300, inputs=shift, seed=0)
    assert set(drawn.values["y"].tolist()) == {0, 1, 2, 3}
    # in place of what like= has
    _, batch = make()
    again = queries.sample(pair, 4, like=batch, inputs={"shift": torch.ones(2)}, given=["y"], seed=0)
    torch.testing.assert_close(again.means["x"], again.latent + 10 * batch[1].unsqueeze(-1) + 100)


def test_the_model_gets_the_inputs_and_the_guide_the_batch():
    pair, (x, y, shift) = make()
    draws = queries.reconstruct(pair, x, y, shift, inputs={"y": 2}, num_samples=3, seed=0)
    plain = queries.reconstruct(pair, x, y, shift, num_samples=3, seed=0)
    torch.testing.assert_close(draws.latent, plain.latent)
    torch.testing.assert_close(draws.means["x"], draws.latent + 20)
    assert (draws.values["y"] == 2).all()
    path = queries.interpolate(
        pair, (x[:1], y[:1], shift[:1]), (x[1:2], y[1:2], shift[1:2]), inputs={"y": 1}, steps=3
    )
    torch.testing.assert_close(path.means["x"], path.latent + 10)
    walk = queries.traverse(pair, (x, y, shift), inputs={"y": 1, "shift": torch.ones(2)}, steps=2)
    torch.testing.assert_close(walk.means["x"], walk.latent + 110)
    z = torch.randn(2, 5, 2)
    decoded = queries.decode(pair, z, inputs={"y": torch.arange(5) % 4, "shift": torch.zeros(2)})
    torch.testing.assert_close(decoded.means["x"], z + 10 * (torch.arange(5) % 4).unsqueeze(-1))


def test_an_input_that_is_no_sites_data_must_be_chosen():
    pair, batch = make()
    for ask in (lambda: queries.sample(pair, 3), lambda: queries.decode(pair, torch.zeros(3, 2))):
        with pytest.raises(ValueError, match=r"the model takes \['shift'\].*inputs=\{'shift': ...\}"):
            ask()
    assert queries.sample(pair, 3, like=batch).values["x"].shape == (3, 2)


def test_arguments_that_sites_observe_need_no_choice():
    batch = torch.zeros(4, 2), torch.zeros(4), torch.zeros(4, 3)
    pair = Pair(Renamed(), Guide(), example=batch)
    assert queries.sample(pair, 5).values["r"].shape == (3, 5)
    nameless = Pair(Nameless(), Guide(), example=batch)
    assert queries.sample(nameless, 5).value.shape == (5, 2)
    assert queries.sample(nameless, 5, inputs={"y": 1}).value.shape == (5, 2)  # named by the guide
    nameless = Pair(Nameless(), lambda *batch: Guide()(*batch), example=batch)
    with pytest.raises(ValueError, match=r"the model takes its batch without names: pass like="):
        queries.sample(nameless, 5, inputs={"y": 1})


def test_a_latent_is_chosen_by_decode():
    pair = Pair(Latent(), Guide(), example=(torch.zeros(1), torch.zeros(1, dtype=torch.long)))
    with pytest.raises(ValueError, match=r"inputs names \['y'\], which the model draws.*decode\(pair, \{'y'"):
        queries.sample(pair, 3, inputs={"y": 2})
    draws = queries.decode(pair, {"y": torch.tensor([3, 1])})
    assert draws.mean.tolist() == [30, 10]


def test_the_check_uses_up_no_random_numbers():
    pair, batch = make()
    with_check = queries.sample(pair, 3, inputs={"y": 1, "shift": torch.zeros(2)}, seed=4)
    without = queries.sample(pair, 3, inputs={"y": 1, "shift": torch.zeros(2)}, like=batch, seed=4)
    assert torch.equal(with_check.values["x"], without.values["x"])


def test_mistakes():
    pair, _ = make()
    for inputs, message in (
        ({"z": 1}, r"names \['z'\], but the model takes \['x', 'y', 'shift'\]"),
        (
            {"y": torch.zeros(2)},
            r"inputs\['y'\]: expected shape \(3,\), or \(\) for all data alike, got \(2,\)",
        ),
    ):
        with pytest.raises(ValueError, match=message):
            queries.sample(pair, 3, inputs=inputs)


@pytest.mark.parametrize("ask", [queries.sample, queries.reconstruct], ids=["sample", "reconstruct"])
def test_inputs_that_are_no_values_by_name(ask):
    pair, batch = make()
    with pytest.raises(ValueError, match=r"inputs must be values by the model's arguments"):
        ask(pair, *((3,) if ask is queries.sample else batch), inputs=torch.tensor(1.0))
