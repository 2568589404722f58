"""A model that reads the values of its data: named by check_pair, and sampled only from what it is given."""

from __future__ import annotations

import pyro
import pyro.distributions as dist
import pytest
import torch
from torch import nn

import ppl_vae as pv
from ppl_vae import Pair, data, estimators, queries
from ppl_vae.core.dependence import readings
from ppl_vae.testing import check_pair
from tests import zoo

COUNTS = torch.poisson(torch.full((30, 5), 4.0), generator=torch.Generator().manual_seed(0))
CPU = torch.device("cpu")


class Program(nn.Module):
    """One of the models below, with parameters."""

    def __init__(self, function, size=5):
        super().__init__()
        self.function, self.net = function, nn.Linear(2, size)

    def forward(self, *batch):
        return self.function(self, *batch)


def named(function, *names, size=5):
    """The same with named arguments."""
    made = {}
    exec(
        f"class Named(Program):\n    def forward(self, {', '.join(names)}): return self.function(self, "
        f"{', '.join(names)})",
        {"Program": Program},
        made,
    )
    return made["Named"](function, size)


def latent(x, loc=0.0):
    return pyro.sample("z", dist.Normal(x.new_zeros(2) + loc, 1.0).to_event(1))


def library(self, x):
    """scVI's: the likelihood's mean is a share of the datum's own total."""
    with pyro.plate("data", len(x), dim=-1):
        share = self.net(latent(x)).softmax(-1)
        pyro.sample("x", dist.Poisson(x.sum(-1, keepdim=True) * share + 1e-6).to_event(1), obs=x)


def log_library(self, x):
    """Not even defined at zero."""
    with pyro.plate("data", len(x), dim=-1):
        size = x.sum(-1, keepdim=True).log()
        pyro.sample("x", dist.Poisson((size + self.net(latent(x)).log_softmax(-1)).exp()).to_event(1), obs=x)


def prior(self, x):
    with pyro.plate("data", len(x), dim=-1):
        z = latent(x, 0.1 * x[..., :2])
        pyro.sample("x", dist.Poisson(self.net(z).exp()).to_event(1), obs=x)


def as_data(self, x):
    """What obs= gets is computed from x, and the draw goes on."""
    with pyro.plate("data", len(x), dim=-1):
        first = pyro.sample("x", dist.Poisson(self.net(latent(x)).exp()).to_event(1), obs=x.round() * 1.0)
        pyro.sample("total", dist.Normal(first.sum(-1), 1.0), obs=x.sum(-1))


def with_input(self, x, size):
    with pyro.plate("data", len(x), dim=-1):
        pyro.sample(
            "x", dist.Poisson(size.unsqueeze(-1) * self.net(latent(x)).softmax(-1) + 1e-6).to_event(1), obs=x
        )


def with_mask(self, x, mask):
    with pyro.plate("data", len(x), dim=-1):
        rate = self.net(latent(x)).exp()
        with pyro.poutine.mask(mask=mask):
            pyro.sample("x", dist.Poisson(rate).to_event(1), obs=x)


def guide_of(*names):
    def guide(self, x, *others):
        with pyro.plate("data", len(x), dim=-1):
            pyro.sample("z", dist.Normal(self.net(x.log1p()[..., :2])[..., :2], 1.0).to_event(1))

    return named(guide, *names)


def make(function, *names, example=(COUNTS,)):
    names = names or ("x",)
    torch.manual_seed(0)
    return Pair(named(function, *names), guide_of(*names), example=example)


READS = [(library, "the likelihood of site 'x'"), (log_library, "site 'x'"), (prior, "the prior of site 'z'")]


@pytest.mark.parametrize(("function", "where"), READS)
def test_check_pair_says_which_site_hangs_on_the_data(function, where):
    report = check_pair(make(function), COUNTS[:8])
    (note,) = report.notes
    assert "reads the values of 'x' outside obs= of site 'x'" in note
    assert where in note or "fails on others" in note
    assert "like=" in note
    assert note in str(report)
    assert report.inputs == ()


@pytest.mark.parametrize(("function", "where"), READS)
def test_samples_are_not_drawn_for_data_of_zeros(function, where):
    pair = make(function)
    for ask in (lambda: pv.sample(pair, 3), lambda: queries.decode(pair, torch.zeros(3, 2))):
        with pytest.raises(
            ValueError, match=r"reads the values of its argument 'x' outside obs= of site 'x'.*like="
        ):
            ask()
    draws = pv.sample(pair, 200, like=COUNTS, seed=0)
    assert draws.value.shape == (200, 5)
    if function is not prior:  # the sizes are those of the rows
        torch.testing.assert_close(
            draws.mean.sum(-1), COUNTS.sum(-1)[torch.arange(200) % 30], rtol=1e-3, atol=1e-3
        )
    assert not torch.equal(draws.value[:30], COUNTS)
    assert queries.decode(pair, torch.zeros(4, 2), like=COUNTS[:4]).mean.sum() > 0


def test_such_a_pair_trains():
    run = pv.fit(make(library), estimators.ELBO(), data.Split.from_tensor(COUNTS), epochs=1, progress=False)
    assert run.history["train_bound"].iloc[0] < 0


@pytest.mark.parametrize("function", [as_data, lambda self, x: None])
def test_data_that_are_only_observed_need_no_choice(function):
    if function is as_data:
        pair = make(as_data)
        assert check_pair(pair, COUNTS[:8]).notes == ()
        assert pv.sample(pair, 4).values["x"].shape == (4, 5)
        (reading,) = readings(pair.model, (COUNTS,), CPU)
        assert reading.data_of == ("total", "x")
        assert not reading.matters
    else:
        (reading,) = readings(Program(function), (COUNTS,), CPU)
        assert not reading.matters


def test_an_input_is_asked_for_and_said():
    size = COUNTS.sum(-1)
    pair = make(with_input, "x", "size", example=(COUNTS, size))
    report = check_pair(pair, COUNTS[:8], size[:8])
    assert report.inputs == ("size",)
    assert report.notes == ()
    assert "input     size" in str(report)
    with pytest.raises(ValueError, match=r"the model takes \['size'\].*inputs=\{'size': ...\}"):
        pv.sample(pair, 3)
    assert pv.sample(pair, 50, inputs={"size": 1000.0}, seed=0).value.sum(-1).mean() > 900
    each = pv.sample(pair, 2, inputs={"size": torch.tensor([10.0, 1000.0])}).mean.sum(-1)
    torch.testing.assert_close(each, torch.tensor([10.0, 1000.0]), rtol=1e-3, atol=1e-3)


def test_a_mask_of_the_likelihood_changes_no_draw_and_is_not_asked_for():
    mask = torch.ones(30, dtype=torch.bool)
    pair = make(with_mask, "x", "mask", example=(COUNTS, mask))
    assert pv.sample(pair, 3).value.shape == (3, 5)


def test_an_argument_by_another_name_may_be_chosen_by_it():
    pair = make(library, "counts")
    with pytest.raises(ValueError, match=r"argument 'counts'.*or inputs=\{'counts': ...\}"):
        pv.sample(pair, 3)
    draws = pv.sample(pair, 30, inputs={"counts": COUNTS}, seed=0)
    torch.testing.assert_close(draws.mean.sum(-1), COUNTS.sum(-1), rtol=1e-3, atol=1e-3)


def test_arguments_without_names_are_numbered():
    """A program that takes *batch has the names of the other one, where that one says."""
    for guide, name in ((guide_of("x"), "x"), (lambda *batch: guide_of("x")(*batch), "number 0")):
        pair = Pair(Program(library), guide, example=(COUNTS,))
        with pytest.raises(ValueError, match=f"its argument '{name}' outside obs="):
            pv.sample(pair, 3)


def test_the_zoo_reads_its_labels_alone():
    for case in zoo.CASES:
        found = readings(case.pair().model, case.batch(), CPU)
        # a view with gaps and a sequence's length say what is masked
        second = case.model == "ConditionalVAE" or bool(case.views) or case.second == "length"
        assert [reading.matters for reading in found] == [False, second][: len(found)], case.id


def test_nothing_is_left_changed():
    pair = make(library).train()
    state = torch.get_rng_state()
    with pytest.raises(ValueError, match="reads the values"):
        pv.sample(pair, 3)
    check_pair(pair, COUNTS[:8])
    assert pair.training
    assert torch.equal(torch.get_rng_state(), state)
