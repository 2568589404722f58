"""What the model draws, put back where the programs take their data from."""

from __future__ import annotations

import pyro
import pyro.distributions as dist
import pytest
import torch
from pyro import poutine
from torch import nn

from ppl_vae import Pair, PairError
from ppl_vae.core.isolation import questioning
from ppl_vae.queries.simulated import simulate


class Model(nn.Module):
    """Data in two arguments, the second of which has what is no data too, and a mask."""

    def __init__(self, observe):
        super().__init__()
        self.observe = observe

    def forward(self, x, others):
        with pyro.plate("data", len(x), dim=-1):
            z = pyro.sample("z", dist.Normal(x.new_zeros(()), 1.0))
            for name, value in self.observe(x, others).items():
                shape = value.shape[1:]
                normal = dist.Normal(z.reshape(-1, *[1] * len(shape)).expand(value.shape), 0.1)
                pyro.sample(name, normal.to_event(len(shape)), obs=value)


class Guide(nn.Module):
    def forward(self, x):
        with pyro.plate("data", len(x), dim=-1):
            pyro.sample("z", dist.Normal(x.flatten(1).mean(-1), 0.1))


def simulated(observe, **options):
    pair = Pair(Model(observe), Guide(), example=(torch.zeros(2, 2, 3), torch.zeros(2, 4)))
    with questioning(pair, 0, pair.device):
        batch, trace = simulate(pair, 5, **options)
    return batch, {name: site["value"] for name, site in trace.nodes.items() if site["type"] == "sample"}


def test_pieces_in_any_order_find_their_places():
    def observe(x, others):
        return {"a": x.permute(0, 2, 1).flip(1), "b": others[:, [2, 0]], "c": others[:, 3]}

    (x, others), drawn = simulated(observe, like=(torch.zeros(5, 2, 3), torch.full((5, 4), 7.0)))
    torch.testing.assert_close(observe(x, others)["a"], drawn["a"])
    assert torch.equal(others[:, [2, 0]], drawn["b"])
    assert torch.equal(others[:, 3], drawn["c"])
    assert torch.equal(others[:, 1], torch.full((5,), 7.0))
    assert drawn["a"].std() > 0


@pytest.mark.parametrize(
    ("observe", "site"),
    [
        (lambda x, others: {"a": 2 * x, "b": others}, "a"),
        (lambda x, others: {"a": x, "b": others - others.mean(-1, keepdim=True)}, "b"),
        (lambda x, others: {"a": x, "b": torch.zeros(len(x), 2)}, "b"),
    ],
)
def test_data_that_are_made_of_arguments_are_refused(observe, site):
    with pytest.raises(
        PairError, match=f"site {site!r}: what it observes is not made of the batch's tensors"
    ):
        simulated(observe)


def test_rows_in_another_order_are_refused():
    with pytest.raises(PairError, match="site 'a': the model observes other values than it was given"):
        simulated(lambda x, others: {"a": x.roll(len(x) // 3, 0), "b": others})


def test_what_is_missing_stays_missing():
    x = torch.zeros(5, 2, 3)
    x[2, 1, 0] = torch.nan
    pair = Pair(Model(lambda x, others: {"a": x, "b": others}), Guide())
    pair.guide.takes_missing = pair.model.takes_missing = True
    pair.remember((x[:2], torch.zeros(2, 4)))
    with questioning(pair, 0, pair.device):
        (again, _), _ = simulate(pair, 5, like=(x, torch.zeros(5, 4)))
    assert torch.equal(again.isnan(), x.isnan())


@pytest.mark.parametrize("how", ["factor", "scale"])
def test_draws_that_do_not_follow_the_density_are_refused(how):
    def model(x):
        with pyro.plate("data", len(x), dim=-1), poutine.scale(scale=0.5 if how == "scale" else 1.0):
            z = pyro.sample("z", dist.Normal(x.new_zeros(()), 1.0))
            if how == "factor":
                pyro.factor("more", -z)
            pyro.sample("x", dist.Normal(z, 1.0), obs=x)

    def guide(x):
        with pyro.plate("data", len(x), dim=-1):
            pyro.sample("z", dist.Normal(x, 1.0))

    pair = Pair(model, guide, example=(torch.zeros(2),))
    match = {"factor": r"the factors \['more'\]", "scale": "site 'z' stands under poutine.scale"}[how]
    with questioning(pair, 0, pair.device), pytest.raises(PairError, match=match):
        simulate(pair, 5)


class Reads(nn.Module):
    """A guide that reads what the model does not."""

    def forward(self, x, others):
        with pyro.plate("data", len(x), dim=-1):
            pyro.sample("z", dist.Normal(others.sum(-1), 0.1))


def test_what_the_guide_alone_reads_must_be_chosen():
    pair = Pair(Model(lambda x, others: {"a": x}), Reads())
    pair.remember((torch.zeros(2, 2, 3), torch.zeros(2, 4)))
    with questioning(pair, 0, pair.device):
        with pytest.raises(PairError, match="the programs read the argument 'others'"):
            simulate(pair, 5)
        (_, others), _ = simulate(pair, 5, inputs={"others": torch.ones(4)})
    assert torch.equal(others, torch.ones(5, 4))


class Labels(nn.Module):
    """A program whose label is a latent, known to the guide where it is given."""

    def __init__(self, is_guide):
        super().__init__()
        self.is_guide = is_guide

    def forward(self, x, y=None):
        with pyro.plate("data", len(x), dim=-1):
            logits = x.new_zeros(len(x), 2)
            if self.is_guide and y is not None:
                logits = logits + 100.0 * nn.functional.one_hot(y, 2)
            drawn = pyro.sample("y", dist.Categorical(logits=logits))
            if not self.is_guide:
                pyro.sample("x", dist.Normal(drawn.to(x.dtype), 1.0), obs=x)


def test_labels_that_would_tell_of_other_data_are_left_out():
    pair = Pair(Labels(False), Labels(True), example=(torch.zeros(2), torch.zeros(2, dtype=torch.long)))
    with questioning(pair, 0, pair.device):
        assert len(simulate(pair, 5)[0]) == 1
        assert len(simulate(pair, 5, like=(torch.zeros(3), torch.ones(3, dtype=torch.long)))[0]) == 1
        known = torch.full((5,), 1)
        assert torch.equal(simulate(pair, 5, inputs={"y": known})[0][1], known)


def test_what_is_masked_must_be_chosen():
    """All masked, by a mask of zeros that nobody chose, any guide would be right."""

    def model(x, mask):
        with pyro.plate("data", len(x), dim=-1):
            z = pyro.sample("z", dist.Normal(x.new_zeros(()), 1.0))
            with poutine.mask(mask=mask):
                pyro.sample("x", dist.Normal(z, 1.0), obs=x)

    def guide(x):
        with pyro.plate("data", len(x), dim=-1):
            pyro.sample("z", dist.Normal(x, 1.0))

    pair = Pair(model, guide, example=(torch.zeros(2), torch.ones(2, dtype=torch.bool)))
    with questioning(pair, 0, pair.device):
        with pytest.raises(PairError, match="the programs read the argument 'mask'"):
            simulate(pair, 5)
        mask = torch.tensor([True, False, True, False, True])
        (x, _), _ = simulate(pair, 5, like=(torch.full((5,), 9.0), mask))
    # padding stays, and tells the guide nothing
    assert torch.equal(x == 9.0, ~mask)


def test_a_label_that_cannot_be_left_out_must_be_said_to_be_unknown():
    class Required(Labels):
        def forward(self, x, y):
            return super().forward(x, y)

    pair = Pair(Required(False), Required(True), example=(torch.zeros(2), torch.zeros(2, dtype=torch.long)))
    with questioning(pair, 0, pair.device), pytest.raises(PairError, match="tells it of a latent"):
        simulate(pair, 5, like=(torch.zeros(3), torch.ones(3, dtype=torch.long)))
