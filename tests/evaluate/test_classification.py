"""Accuracy and log loss against the rule of Bayes, on a mixture whose classes are known."""

from __future__ import annotations

import math

import pyro
import pyro.distributions as dist
import pytest
import torch
from torch import nn

import ppl_vae as pv
from ppl_vae import data, evaluate
from tests.core.summed_programs import Empty

MEANS = torch.tensor([-1.0, 1.0])


class Mixture(nn.Module):
    """x is normal around the mean of its class y."""

    def forward(self, x):
        with pyro.plate("data", len(x), dim=-1):
            y = pyro.sample("y", dist.Categorical(x.new_ones(2)))
            pyro.sample("x", dist.Normal(MEANS[y].unsqueeze(-1), 1.0).to_event(1), obs=x)


class Told(nn.Module):
    """A guide that draws the class, and says what it was told of it."""

    def forward(self, x, y):
        with pyro.plate("data", len(x), dim=-1):
            sure = torch.stack([-x[:, 0], x[:, 0]], -1).where(
                (y < 0)[:, None], 100.0 * nn.functional.one_hot(y.clamp(min=0), 2)
            )
            pyro.sample("y", dist.Categorical(logits=sure))


def rows(count=2000):
    y = torch.arange(count) % 2
    return MEANS[y][:, None] + torch.randn(count, 1), y


def test_the_posterior_is_judged_as_the_rule_of_bayes():
    x, y = rows()
    found = evaluate.classification(pv.Pair(Mixture(), Empty()), data.Split.from_tensor(x, y))
    # p(y = 1 | x) = 1 / (1 + exp(-2 x)), and the best rule is the sign of x
    torch.testing.assert_close(found.probabilities[:, 1], torch.sigmoid(2 * x[:, 0]))
    right = ((x[:, 0] > 0) == (y == 1)).double().mean()
    assert found.accuracy == pytest.approx(float(right))
    assert abs(found.accuracy - 0.8413) < 4.5 * found.standard_error  # Phi(1)
    assert found.log_loss == pytest.approx(
        float(-torch.sigmoid(2 * x[:, 0] * MEANS[y]).log().mean()), rel=1e-5
    )
    assert found.by_class[0] == pytest.approx(float((x[y == 0, 0] < 0).double().mean()))
    assert "of 2,000 labels that were hidden" in str(found)


def test_rows_without_a_label_are_left_out_and_the_others_are_hidden():
    x, y = rows(20)
    x[0], y[0], y[3], y[5] = 0.5, 0, -1, -1  # the guide takes the first for class 1
    pair = pv.Pair(Mixture(), Told())
    found = evaluate.classification(pair, data.Split.from_tensor(x, y, labels=True))
    assert len(found.labels) == 18
    torch.testing.assert_close(found.probabilities[0], torch.tensor([-0.5, 0.5]).softmax(0))
    assert not found.right[0]
    assert math.isfinite(found.log_loss)


def test_what_cannot_be_judged_is_named():
    x, y = rows(20)
    pair = pv.Pair(Mixture(), Empty())
    with pytest.raises(data.DataError, match="the data has none: give y"):
        evaluate.classification(pair, x)
    with pytest.raises(data.DataError, match="the data has none: give y"):
        evaluate.classification(pair, data.Split.from_tensor(x, torch.full((20,), -1)))
    with pytest.raises(data.DataError, match="label 2 is none of the 2 values of site 'y'"):
        evaluate.classification(pair, data.Split.from_tensor(x, y + 1))
    with pytest.raises(ValueError, match="no latent site 'k'"):
        evaluate.classification(pair, data.Split.from_tensor(x, y), site="k")


@pytest.mark.parametrize("rows_needed", [9])
def test_the_first_meeting_reads_no_more_than_it_needs(rows_needed, monkeypatch):
    from ppl_vae.data.rows import HostTensor, stream

    seen: list[int] = []
    read = HostTensor.read
    monkeypatch.setattr(HostTensor, "read", lambda self, at: seen.append(len(at)) or read(self, at))
    split = data.Split(stream(HostTensor(rows(600)[0])))
    evaluate.batches.to_data(split, pv.Pair(Mixture(), Empty()))
    assert seen == [rows_needed]
