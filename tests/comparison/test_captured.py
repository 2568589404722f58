"""Gradients drawn by captured functions: those of the programs as written."""

from __future__ import annotations

import functools
from types import SimpleNamespace

import pyro.infer
import pytest
import torch

from ppl_vae import Pair, comparison, estimators, guides
from ppl_vae.capture import CaptureError, worth
from ppl_vae.capture.worth import worth_draws
from ppl_vae.comparison import captured_draw as loops
from ppl_vae.comparison import gradients as maps
from ppl_vae.comparison.gradients import GradientSampler
from ppl_vae.estimators import ELBO, IWAE, STL, TVO, VIMCO, DReG, MeanFieldELBO, Renyi, ScoreFunction
from tests.capture.helpers import PAIRS, images, inputs, needs_compiler, vae, without_compiling
from tests.capture.test_refusals import AngleModel, VonMisesGuide
from tests.oracle import make_pair
from tests.programs import BernoulliGuide, BernoulliModel, ChainGuide, ChainModel, Subsampled


@pytest.fixture
def uncompiled(monkeypatch):
    """Captured draws that are not compiled; the functions that were made."""
    return without_compiling(monkeypatch, maps, loops)


def drawn(sampler, count, seed=3):
    both = [(each.bound, each.gradient) for each in sampler.draw(count, seed)]
    return [torch.cat(part) for part in zip(*both, strict=True)]


def assert_the_same(pair, estimator, batch, vectorised, count=5):
    as_written, captured = (GradientSampler(pair, estimator, batch, capture) for capture in (False, True))
    assert captured.vectorised == vectorised
    tolerance = 1e-5 if pair.dtype == torch.float32 else 1e-10
    for _ in range(2):  # what an estimator remembers goes on
        first, second = drawn(as_written, count), drawn(captured, count)
        assert (first[1].std(0) > 0).any()
        for one, two in zip(first, second, strict=True):
            torch.testing.assert_close(two, one, rtol=tolerance, atol=tolerance * float(one.abs().max()))


MAPPED = [ELBO(2), MeanFieldELBO(2), IWAE(3), Renyi(0.5, 3), STL(2), DReG(3), TVO(3)]


@pytest.mark.parametrize("estimator", MAPPED, ids=repr)
def test_a_captured_map_gives_the_gradients_of_the_map(estimator, double, uncompiled):
    assert_the_same(vae(torch.float64), estimator, (images(4, torch.float64),), vectorised=True)
    assert uncompiled[0].num_graphs == 1


@pytest.mark.parametrize("name", [name for name in PAIRS if name != "dropout and batch norm"])
def test_pairs(name, double, uncompiled):
    assert_the_same(PAIRS[name](torch.float64), DReG(2), (inputs(name)[:3],), vectorised=True)


def test_flows_hierarchies_discrete_latents_and_subsampling(double, uncompiled):
    guide = functools.partial(guides.IAF, num_transforms=2, hidden=(4,))
    mask = torch.tensor([[True, False]]).expand(4, 2).contiguous()
    discrete = [Subsampled(program, 50) for program in (BernoulliModel(), BernoulliGuide())]
    for pair, estimator, batch in (
        (vae(torch.float64, guide=guide), IWAE(2), (images(3, torch.float64),)),
        (Pair(ChainModel(0.5), ChainGuide(0.5)), STL(2), (torch.randn(4, 2), mask)),
        (Pair(BernoulliModel(), BernoulliGuide()), VIMCO(3), (torch.randn(4),)),
        (Pair(*discrete), VIMCO(3), (torch.randn(4), torch.arange(4))),
    ):
        assert_the_same(pair, estimator, batch, vectorised=True)


@pytest.mark.parametrize(
    "estimator",
    [
        ScoreFunction(2),  # with its moving average
        pyro.infer.Trace_ELBO(),
        pyro.infer.RenyiELBO(alpha=0.5, num_particles=2, vectorize_particles=True, max_plate_nesting=1),
    ],
    ids=lambda each: type(each).__name__,
)
def test_a_loop_is_captured_draw_by_draw(estimator, double, uncompiled):
    pair = make_pair(perturb=0.2) if isinstance(estimator, pyro.infer.RenyiELBO) else None
    pair = pair or Pair(BernoulliModel(), BernoulliGuide())
    batch = (torch.randn(4, 5) if isinstance(pair.model, type(make_pair().model)) else torch.randn(4),)
    assert_the_same(pair, estimator, batch, vectorised=False)
    assert uncompiled[0].num_graphs == 1


@needs_compiler
@pytest.mark.slow
@pytest.mark.parametrize(
    ("estimator", "dtype"),
    [(DReG(2), torch.float64), (pyro.infer.Trace_ELBO(), torch.float32)],
    ids=["a map", "a loop"],
)
def test_compiled(estimator, dtype):
    assert_the_same(vae(dtype), estimator, (images(4, dtype),), vectorised=isinstance(estimator, DReG))


def test_a_last_smaller_piece_is_drawn_as_written(uncompiled, monkeypatch):
    monkeypatch.setattr(GradientSampler, "_chunk", lambda self: 4)
    assert_the_same(vae(), IWAE(2), (images(4),), vectorised=True, count=10)
    assert uncompiled[0].num_graphs == 1


def test_weights_that_changed_are_seen(uncompiled):
    pair = vae()
    sampler = GradientSampler(pair, IWAE(2), (images(4),), True)
    before = drawn(sampler, 4)[1]
    with torch.no_grad():
        pair.model.decoder.output_bias.add_(1)
    expected = drawn(GradientSampler(pair, IWAE(2), (images(4),)), 4)[1]
    torch.testing.assert_close(drawn(sampler, 4)[1], expected, rtol=1e-5, atol=1e-5)
    assert not torch.allclose(before, expected)


def test_what_cannot_be_captured_is_drawn_as_written_after_one_warning(uncompiled, monkeypatch):
    monkeypatch.setattr(maps, "worth_draws", lambda *arguments: True)
    pair, x = Pair(AngleModel(), VonMisesGuide()), torch.linspace(-1, 1, 4)
    for estimator, reason in (
        (VIMCO(2), "site 'angle'"),
        (pyro.infer.TraceGraph_ELBO(), "no differentiable loss"),
    ):
        sampler = GradientSampler(pair, estimator, (x,), "auto")
        with pytest.warns(UserWarning, match=f"cannot be captured: .*{reason}") as caught:
            found = drawn(sampler, 3)
        assert len(caught) == 1
        expected = drawn(GradientSampler(pair, estimator, (x,)), 3)
        assert torch.equal(found[1], expected[1])
        with pytest.raises(CaptureError, match=reason):
            drawn(GradientSampler(pair, estimator, (x,), True), 3)


def test_at_point_gives_the_same_table(double, uncompiled):
    pair, x = make_pair(perturb=0.1), torch.randn(4, 5)
    given = [DReG, pyro.infer.Trace_ELBO(max_plate_nesting=1)]
    tables = [
        comparison.at_point(
            pair,
            given,
            x,
            num_particles=[1, 3],
            draws=20,
            reference_draws=20,
            capture=capture,
            progress=False,
        ).table.drop(columns=["seconds", "memory"], errors="ignore")
        for capture in (False, True)
    ]
    assert len(uncompiled) > 3
    columns = tables[0].select_dtypes("number").columns
    first, second = (table[columns].to_numpy() for table in tables)
    assert second == pytest.approx(first, rel=1e-8, abs=1e-10, nan_ok=True)


def test_auto_counts(uncompiled, monkeypatch):
    monkeypatch.setattr(worth, "can_compile", lambda device: True)
    cpu = torch.device("cpu")
    assert not worth_draws(1000, 8 * 784, cpu)
    assert worth_draws(2000, 50 * 8 * 784, cpu)
    assert not worth_draws(2000, 50 * 8 * 784, SimpleNamespace(type="cuda"))
    assert not worth_draws(1000, None, cpu)
    assert worth_draws(10_000, None, cpu)
    drawn(GradientSampler(vae(), IWAE(2), (images(4),), "auto"), 10)
    assert uncompiled == []
    with pytest.raises(ValueError, match="capture must be"):
        GradientSampler(vae(), estimators.ELBO(), (images(4),), "always")
