"""Rows of columns of different kinds with gaps: against the sum over what is seen, and the exact marginal."""

from __future__ import annotations

import math

import pyro.distributions as dist
import pytest
import torch
from torch import Tensor, nn

import ppl_vae as pv
from ppl_vae import data, estimators, guides, likelihoods, models, nets

LATENT = 2


def mixed() -> likelihoods.Mixed:
    parts = (
        likelihoods.Gaussian(event_dim=1, num_columns=2),
        likelihoods.Categorical(3, event_dim=1),
        likelihoods.Ordinal(4, event_dim=1),
        likelihoods.Poisson(event_dim=1),
        likelihoods.NegativeBinomial(total_count="per_output", event_dim=1),
        likelihoods.Bernoulli(event_dim=1),
        likelihoods.LogNormal(scale=0.5, event_dim=1),
    )
    columns = ((6, 1), (0,), (3,), (2,), (5,), (4,), (7,))
    return likelihoods.Mixed(parts, columns, names=tuple("abcdefgh")).double()


def drawn(*batch: int, gaps: float = 0.0) -> tuple[likelihoods.Mixed, Tensor, Tensor]:
    likelihood = mixed()
    with torch.random.fork_rng():
        torch.manual_seed(0)
        raw = torch.randn(*batch, *likelihood.raw_shape((8,)), dtype=torch.float64)
        x = likelihood(raw).sample()
        x[torch.rand(x.shape) < gaps] = math.nan
    return likelihood, raw, x


# The sum over what is seen


def test_complete_rows_are_the_sum_of_the_parts():
    likelihood, raw, x = drawn(20)
    expected, start = 0.0, 0
    for part, group in zip(likelihood.parts, likelihood.columns):
        size = part.raw_shape((len(group),))[0]
        expected = expected + part(raw[..., start : start + size]).log_prob(x[..., list(group)])
        start += size
    torch.testing.assert_close(likelihood(raw).log_prob(x), expected, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("missing", [(0,), (1, 6), (2, 3, 7), (4, 5), tuple(range(8))])
def test_missing_cells_are_integrated_out(missing):
    """Against sums and integrals of the complete density over the missing cells, one column at a time."""
    likelihood, raw, x = drawn(6)
    p = likelihood(raw)
    gaps = x.clone()
    gaps[:, list(missing)] = math.nan
    # given z the columns are independent: the density of the rest is the joint over the missing ones' own
    rest = p.log_prob(x)
    for column in missing:
        alone = torch.full_like(x, math.nan)
        alone[:, column] = x[:, column]
        rest = rest - p.log_prob(alone)
    torch.testing.assert_close(p.log_prob(gaps), rest, rtol=1e-9, atol=1e-9)
    for column in missing:
        values, weights = _grid(column)
        others = x.clone()
        others[:, column] = math.nan
        filled = x.expand(len(values), *x.shape).clone()
        filled[..., column] = values[:, None]
        summed = (p.log_prob(filled) + weights.log()[:, None]).logsumexp(0)
        torch.testing.assert_close(summed, p.log_prob(others), rtol=0, atol=1e-5)


def _grid(column: int) -> tuple[Tensor, Tensor]:
    """Values that a column may take, and the weights of a sum or an integral over them."""
    if column in (1, 6, 7):
        values = torch.linspace(-14, 14, 4001, dtype=torch.float64)
        weights = torch.full_like(values, float(values[1] - values[0]))
        return (values.exp(), weights * values.exp()) if column == 7 else (values, weights)
    values = torch.arange({0: 3, 3: 4, 4: 2}.get(column, 4000), dtype=torch.float64)
    return values, torch.ones_like(values)


def test_gradients_are_those_without_the_missing_cells():
    likelihood, raw, x = drawn(30, gaps=0.4)
    x[0] = math.nan  # nothing is known of this one
    raw.requires_grad_()
    likelihood(raw).log_prob(x).sum().backward()
    assert raw.grad is not None
    assert raw.grad.isfinite().all()
    assert (raw.grad[0] == 0).all()
    for parameter in likelihood.parameters():
        assert parameter.grad is not None
        assert parameter.grad.isfinite().all()
    column = raw.detach()[:, 0:2].requires_grad_()  # the two numbers: raw 0 is column 6, raw 1 column 1
    gaussian = likelihood.parts[0](column).base_dist
    seen = ~x[:, [6, 1]].isnan()
    gaussian.log_prob(x[:, [6, 1]].nan_to_num())[seen].sum().backward()
    torch.testing.assert_close(raw.grad[:, 0:2], column.grad)


def test_particles_expand_and_shapes():
    likelihood, raw, x = drawn(4, 5, gaps=0.3)
    together = likelihood(raw).log_prob(x[0])
    assert together.shape == (4, 5)
    alone = torch.stack([likelihood(raw[k]).log_prob(x[0]) for k in range(4)])
    torch.testing.assert_close(together, alone)
    p = likelihood(raw[0])
    torch.testing.assert_close(p.expand((3, 5)).log_prob(x[0]), p.log_prob(x[0]).expand(3, 5))
    assert p.expand((3, 5)).sample().shape == (3, 5, 8)
    assert not p.sample((7,)).isnan().any()
    likelihood.check(p.sample((100,)))
    single = likelihood(raw.float()).log_prob(x[0].float())
    assert single.dtype == torch.float32
    torch.testing.assert_close(single.double(), together, rtol=1e-4, atol=1e-4)


def test_the_mean_of_a_class_is_the_likeliest_one():
    likelihood, raw, _ = drawn(50)
    p = likelihood(raw)
    torch.testing.assert_close(p.mean[:, 0], raw[:, 2:5].argmax(-1).double())
    torch.testing.assert_close(p.mean[:, 4], raw[:, 9].sigmoid())
    draws = p.sample((4000,))
    error = (draws.mean(0) - p.mean) / (p.variance / 4000).sqrt()
    assert error[:, 1:].abs().max() < 5


def test_initial_bias_gives_the_mean_of_what_is_seen():
    likelihood, _, x = drawn(400, gaps=0.3)
    mean = x.nanmean(0)
    mean[3] = 1.4
    p = likelihood(likelihood.initial_bias(mean))
    torch.testing.assert_close(p.mean[1:], mean[1:], rtol=1e-5, atol=1e-5)
    decoder = nets.MLPDecoder(LATENT, likelihood.raw_shape((8,)), hidden=()).double()
    nets.centre_output(decoder, likelihood, x)
    torch.testing.assert_close(decoder.output_bias.detach(), likelihood.initial_bias(x.nanmean(0)))
    never = mean.clone()
    never[:] = math.nan
    assert likelihood.initial_bias(never).isfinite().all()


# What is refused


@pytest.mark.parametrize(
    ("column", "value", "told"),
    [(2, 1.5, "'c'.*counts"), (0, 3.0, "'a'.*class index"), (7, -1.0, "'h'.*positive")],
)
def test_values_outside_a_column_are_named(column, value, told):
    likelihood, raw, x = drawn(5, gaps=0.2)
    x[3, column] = value
    with pytest.raises(ValueError, match=rf"likelihoods.Mixed: column {told}"):
        likelihood.check(x)
    with pytest.raises(ValueError, match=rf"likelihoods.Mixed: column {told}"):
        likelihood(raw).log_prob(x)


def test_parts_that_are_none():
    gaussian = likelihoods.Gaussian(event_dim=1)
    for columns in (((0,), (2,)), ((0, 1), (1,)), ((0,),), ((0,), ())):
        with pytest.raises(ValueError, match="each of 0, 1, 2"):
            likelihoods.Mixed((gaussian, gaussian), columns)
    with pytest.raises(ValueError, match="is no likelihood"):
        likelihoods.Mixed((nn.Linear(1, 1),))
    with pytest.raises(ValueError, match="event_dim=1"):
        likelihoods.Mixed((likelihoods.Gaussian(),))
    with pytest.raises(ValueError, match="does not give independent columns"):
        likelihoods.Mixed((Joint(),), ((0, 1),))
    with pytest.raises(ValueError, match="build the decoder with shape"):
        likelihoods.Mixed((gaussian,))(torch.zeros(3, 2))
    with pytest.raises(ValueError, match="num_columns=3"):
        likelihoods.Gaussian(event_dim=1, num_columns=3)(torch.zeros(2, 4))
    with pytest.raises(ValueError, match="event_dim=1"):
        likelihoods.NegativeBinomial(num_columns=3)
    with pytest.raises(ValueError, match="kind 'text'"):
        likelihoods.Mixed.of([Column("a", "text", 1)])


class Column:
    def __init__(self, name: str, kind: str, size: int) -> None:
        self.name, self.kind, self.size = name, kind, size


class Joint(nn.Module):
    def forward(self, raw: Tensor) -> dist.Distribution:
        return dist.MultivariateNormal(raw, torch.eye(2))

    def raw_shape(self, shape):
        return shape

    def initial_bias(self, mean):
        return mean

    def check(self, x):
        return None


def test_a_pair_that_takes_no_gaps_is_told_before_the_first_step():
    """Also where only the validation part has gaps, and where eight rows at random would have none."""
    x = torch.randn(200, 3)
    x[0, 1] = math.nan
    whole = data.Split.from_tensor(x[1:])
    parts = data.DataSet("gaps", whole, data.Split.from_tensor(x[:20], missing=True), whole)
    likelihood = likelihoods.Mixed((likelihoods.Gaussian(event_dim=1),), ((0, 1, 2),))
    takes = nets.ColumnEncoder((1, 1, 1), 1, (4,))
    plain = models.VAE(likelihoods.Gaussian(event_dim=1), nets.MLPDecoder(1, (3,), (4,)), 1)
    mixed = models.VAE(likelihood, nets.MLPDecoder(1, (3,), (4,)), 1)
    for given in (parts, data.Split.from_tensor(x, missing=True)):
        for model, encoder in ((plain, takes), (mixed, nets.MLPEncoder((3,), 1, (4,)))):
            with pytest.raises(pv.PairError, match="NaN"):
                pv.fit(pv.Pair(model, guides.MeanField(encoder)), estimators.ELBO(), given, epochs=1)
    with pytest.raises(data.DataError, match=r"row 0 holds NaN.*missing=True"):
        data.from_tensors(x)
    with pytest.raises(data.DataError, match="row 0 holds an infinite value"):
        data.from_tensors(torch.where(x.isnan(), math.inf, x), missing=True)
    assert (
        pv.fit(pv.Pair(mixed, guides.MeanField(takes)), estimators.ELBO(), x, epochs=1).stopped == "finished"
    )
