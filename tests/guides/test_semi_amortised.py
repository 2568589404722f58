"""The semi-amortised guide: better than where it starts, a function of x,
with gradients through its steps.
"""

from __future__ import annotations

import copy

import pytest
import torch
from torch import nn

from ppl_vae import Pair, PairError, estimators, guides, models, nets
from ppl_vae.distributions.local import read_local
from ppl_vae.runs import config
from tests.oracle import make_pair
from tests.programs import ChainGuide, ChainModel

pytestmark = pytest.mark.usefixtures("double")

GUIDES = {
    "mean field": guides.MeanField,
    "full rank": guides.FullRank,
    "low rank": guides.LowRank,
    "planar": guides.Planar,
    "sylvester": guides.Sylvester,
    "iaf": guides.IAF,
    "spline": guides.Spline,
}


def build(make=guides.MeanField, **options):
    model = models.LinearGaussian(3, 5)
    guide = make(nets.MLPEncoder((5,), 3, (6,)))
    return Pair(model, guides.SemiAmortised(guide, model, **options))


def elbo(pair, x, guide=None):
    torch.manual_seed(0)
    with torch.no_grad():
        drawn = estimators.ELBO(200).draw(pair.model, guide or pair.guide, x)
    return drawn.log_weight.mean(0)


@pytest.mark.parametrize("make", GUIDES.values(), ids=GUIDES)
def test_the_steps_raise_every_datums_bound(make):
    pair, x = build(make, num_steps=10, step_size=0.02), torch.randn(6, 5)
    before, after = elbo(pair, x, pair.guide.guide), elbo(pair, x)
    assert (after > before).all()
    assert (after - before).mean() > 1
    assert (after < pair.model.log_evidence(x) + 0.1).all()


@pytest.mark.parametrize("make", GUIDES.values(), ids=GUIDES)
def test_without_displacement_it_is_the_guide(make):
    pair, x = build(make, num_steps=0), torch.randn(6, 5)
    torch.testing.assert_close(elbo(pair, x), elbo(pair, x, pair.guide.guide))


def test_it_approaches_the_best_of_the_family():
    """Of a diagonal normal: the precisions of the exact posterior's diagonal, around its mean."""
    pair = build(num_steps=300, step_size=0.1, num_samples=64)
    pair.guide.guide.encoder.head.linear.weight.data.mul_(0.1)  # a scale of about one, as after training
    pair.guide.noise.copy_(torch.cat([hadamard := _hadamard(32)[:, 1:4], -hadamard]))
    x = torch.randn(6, 5)
    local, posterior = pair.guide.refine(x)
    exact = pair.model.posterior(x)
    assert local.site == "z"
    torch.testing.assert_close(posterior.mean, exact.mean, atol=1e-4, rtol=0)
    precision = exact.precision_matrix.diagonal(dim1=-2, dim2=-1)
    torch.testing.assert_close(posterior.variance, 1 / precision, atol=1e-4, rtol=1e-3)


def _hadamard(size):
    matrix = torch.ones(1, 1)
    while len(matrix) < size:
        matrix = torch.cat([torch.cat([matrix, matrix], 1), torch.cat([matrix, -matrix], 1)])
    return matrix


def test_the_exact_posterior_stays_where_it_is():
    oracle = make_pair()
    x = torch.randn(6, 5)
    guide = guides.SemiAmortised(oracle.guide, oracle.model, num_samples=8)
    guide.noise.copy_(torch.cat([hadamard := _hadamard(4)[:, 1:4], -hadamard]))
    _, posterior = guide.refine(x)
    torch.testing.assert_close(posterior.mean, oracle.model.posterior(x).mean)
    torch.testing.assert_close(posterior.scale_tril, oracle.model.posterior(x).scale_tril)


def test_it_is_a_function_of_x_and_treats_the_data_apart():
    pair, x = build(), torch.randn(6, 5)
    _, whole = pair.guide.refine(x)
    _, part = pair.guide.refine(x[:4])
    torch.testing.assert_close(part.mean, whole.mean[:4])
    torch.testing.assert_close(part.variance, whole.variance[:4])


@pytest.mark.parametrize("second_order", [True, False])
def test_gradients_go_through_the_steps(second_order):
    pair, x = build(second_order=second_order, num_steps=2), torch.randn(6, 5)

    def value(pair):
        torch.manual_seed(0)
        return estimators.ELBO(4).differentiable_loss(pair.model, pair.guide, x)

    value(pair).backward()
    exact = []
    for parameter in (pair.guide.guide.encoder.head.linear.bias, pair.model.weight):
        index = int(parameter.grad.abs().argmax())
        values = []
        with torch.no_grad():
            for step in (1e-5, -2e-5, 1e-5):
                parameter.view(-1)[index] += step
                values.append(value(pair))
        numerical = ((values[0] - values[1]) / 2e-5).item()
        exact.append(parameter.grad.flatten()[index].item() == pytest.approx(numerical, rel=1e-5))
    assert all(exact) == second_order


def test_the_model_counts_once_and_moves_with_its_pair():
    pair = build()
    names = [name for name, _ in pair.named_parameters()] + list(pair.state_dict())
    assert not any("guide.model" in name or "_model" in name for name in names)
    other = copy.deepcopy(pair)
    assert other.guide.model is other.model
    assert other.model is not pair.model
    seen: dict[nn.Module, dict] = {}
    tree = {"model": config.describe(pair.model, seen), "guide": config.describe(pair.guide, seen)}
    assert tree["guide"]["init_args"]["model"] is tree["model"]
    built: dict = {}
    model = config.build(tree["model"], built=built)
    assert config.build(tree["guide"], built=built).model is model


def test_no_graph_is_left_in_evaluation():
    pair, x = build(), torch.randn(6, 5)
    with torch.no_grad():
        _, posterior = pair.guide.refine(x)
    assert not posterior.mean.requires_grad
    assert all(parameter.grad is None for parameter in pair.parameters())


def test_what_it_cannot_take_is_named():
    model = models.LinearGaussian(3, 5)
    encoder = nets.MLPEncoder((5,), 3, (6,))
    with pytest.raises(ValueError, match="num_samples even, got 4 and 3"):
        guides.SemiAmortised(guides.MeanField(encoder), model, num_samples=3)
    with pytest.raises(ValueError, match="ChainModel has no latent_dim"):
        guides.SemiAmortised(guides.MeanField(encoder), ChainModel())
    with pytest.raises(PairError, match="Gamma has no inverse distribution function"):
        guides.SemiAmortised(guides.Gamma(encoder), model)(torch.randn(6, 5))
    with pytest.raises(PairError, match=r"latent sites are \['top', 'bottom'\]"):
        read_local(ChainGuide(), (torch.randn(6, 2),))
