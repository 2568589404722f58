"""matmul_precision="bf16": the factors of products rounded to bfloat16, all else in float32."""

from __future__ import annotations

import pytest
import torch

import ppl_vae as pv
from ppl_vae import estimators
from ppl_vae.compiler import CompileError
from ppl_vae.compiler.graph import compile_graph, lower
from ppl_vae.compiler.rewrites import Setting, rounding
from ppl_vae.compiler.rewrites.rounding import in_bfloat16
from ppl_vae.runs import RunError
from ppl_vae.train.captured_step import CapturedStep
from ppl_vae.train.objective import Objective
from tests.capture.helpers import adam, convolutional, images, needs_compiler, seeded, vae

UNIT = 2.0**-8  # the largest relative error of rounding to 8 bits


def gradients(pair, x, **options):
    """(loss, gradients) of a captured step: where plain gradient descent moves the parameters,
    over its rate.
    """
    before = [p.detach().clone() for p in pair.parameters()]
    still = torch.optim.SGD(pair.parameters(), lr=1.0)
    step = CapturedStep(Objective(pair, estimators.IWAE(3)), still, same_noise=True, **options)
    loss = seeded(step, x)
    moved = [old - new.detach() for old, new in zip(before, pair.parameters(), strict=True)]
    with torch.no_grad():
        for parameter, value in zip(pair.parameters(), before, strict=True):
            parameter.copy_(value)
    return loss, moved


@pytest.mark.parametrize(
    ("make", "backend"),
    [
        (vae, "graph"),
        (lambda: convolutional(torch.float32), "graph"),
        pytest.param(vae, "inductor", marks=[needs_compiler, pytest.mark.slow]),
    ],
    ids=["mlp", "convolutional", "compiled"],
)
def test_gradients_agree_with_float32s_to_the_rounding_of_bfloat16(make, backend, monkeypatch):
    monkeypatch.setattr(rounding, "has_products", lambda: True)
    pair = make()
    x = images(side=8 if make is not vae else 4)
    loss, exact = gradients(pair, x, backend="graph")
    near, found = gradients(pair, x, backend=backend, matmul_precision="bf16")
    assert near == pytest.approx(loss, rel=4 * UNIT)
    for one, two in zip(found, exact, strict=True):
        assert one.dtype == torch.float32
        # a few products deep, each with an error of up to two roundings
        assert (one - two).norm() < 8 * UNIT * two.norm() + 1e-6


def test_products_are_those_of_the_rounded_factors_summed_in_float32():
    if not rounding.has_products():
        pytest.skip("the processor has no bfloat16 products")
    x, weight = torch.randn(128, 256), torch.randn(256, 64)
    found = in_bfloat16(torch.mm)(x, weight)
    assert found.dtype == torch.float32
    exact = x.bfloat16().double() @ weight.bfloat16().double()
    torch.testing.assert_close(found.double(), exact, rtol=1e-3, atol=1e-3)
    assert (found.double() - x.double() @ weight.double()).abs().max() > 1e-2


def test_a_processor_without_such_products_stays_with_float32(monkeypatch):
    monkeypatch.setattr(rounding, "has_products", lambda: False)
    pair, x = vae(), images()
    loss, _ = gradients(pair, x, backend="graph")
    with pytest.warns(UserWarning, match="changes nothing: this processor has no such products"):
        same, _ = gradients(pair, x, backend="graph", matmul_precision="bf16")
    assert same == loss


def test_its_graph_is_rewritten_as_that_of_float32(monkeypatch):
    monkeypatch.setattr(rounding, "has_products", lambda: False)
    seen = []
    monkeypatch.setattr("ppl_vae.compiler.graph.rewrite", lambda _, setting: seen.append(setting))
    setting = Setting(torch.device("cpu"), matmul_precision="bf16", backend="graph")
    traced = lower(lambda tensors: [tensors[0] @ tensors[0]], [torch.ones(3, 3)], setting.device)
    with pytest.warns(UserWarning, match="changes nothing"):
        assert compile_graph(traced, [torch.ones(3, 3)], setting) is traced
    assert seen == [setting._replace(matmul_precision="float32")]


def test_the_mode_of_onednn_is_as_before_afterwards():
    setting = getattr(torch.backends.mkldnn, "matmul", None)
    if setting is None:
        pytest.skip("this torch has one setting for all products")
    before, seen = setting.fp32_precision, []

    def run():
        seen.append(setting.fp32_precision)
        raise KeyError

    with pytest.raises(KeyError):
        in_bfloat16(run)()
    assert seen == ["bf16"]
    assert setting.fp32_precision == before


def test_it_is_an_option_of_fit_and_kept_with_the_run(tmp_path, monkeypatch):
    options = {"epochs": 1, "batch_size": 12, "progress": False, "device": "cpu"}
    with pytest.raises(ValueError, match="matmul_precision must be one of 'float32', 'bf16', got 'half'"):
        pv.fit(vae(), estimators.ELBO(), images(24), matmul_precision="half", **options)
    with pytest.raises(ValueError, match="give capture=True"):
        pv.fit(vae(), estimators.ELBO(), images(24), matmul_precision="bf16", **options)
    made = []

    def graph_only(*arguments, **given):
        made.append(CapturedStep(*arguments, **given, backend="graph"))
        return made[-1]

    monkeypatch.setattr("ppl_vae.train.step.CapturedStep", graph_only)
    monkeypatch.setattr(rounding, "has_products", lambda: True)
    options |= {"capture": True, "run_dir": tmp_path}
    pv.fit(vae(), estimators.ELBO(), images(24), matmul_precision="bf16", **options)
    assert made[0].matmul_precision == "bf16"
    with pytest.raises(RunError, match="matmul_precision was 'bf16', is 'float32'"):
        pv.fit(vae(), estimators.ELBO(), images(24), resume=True, **options)


def test_it_is_for_a_cpu():
    step = CapturedStep(Objective(vae(), estimators.ELBO()), adam(vae()), matmul_precision="bf16")
    graph = lower(lambda tensors: tensors, [torch.zeros(1)], torch.device("cpu"))
    with pytest.raises(CompileError, match="is for a CPU"):
        compile_graph(
            graph, [torch.zeros(1, device="meta")], Setting(torch.device("meta"), True, "bf16", "graph")
        )
    assert step.matmul_precision == "bf16"
