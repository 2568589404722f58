"""Results lie in memory as they did when they were recorded, however an operator's traced form has them."""

from __future__ import annotations

import pytest
import torch
from torch import nn
from torch.nn import functional

from ppl_vae.capture import CaptureError
from ppl_vae.capture.function import CapturedFunction
from tests.capture.helpers import needs_compiler

X = torch.linspace(-2, 2, 6 * 4 * 5, dtype=torch.float64).sin().reshape(6, 4, 5)
RESULTS = {
    "gamma": lambda y: torch._standard_gamma(y.exp()),
    "poisson": lambda y: torch.poisson(y.exp()),
    "normal": lambda y: torch.normal(y, y.exp()),
    "randn_like": lambda y: torch.randn_like(y) + y,
    "logsigmoid": functional.logsigmoid,
    "xlogy": lambda y: torch.xlogy(y.exp(), y.exp().contiguous()),
    "batch norm": lambda y: functional.batch_norm(y, None, None, training=True),
    "sorted": lambda y: y.sort(1)[0],
    "copied": lambda y: y.contiguous() * 2 + y,
    "turned in place": lambda y: (y * 2).transpose_(0, 1).add_(1).transpose_(0, 1),
}
VIEWS = {"as it lies": lambda y: y.transpose(1, 2).view(6, -1), "made one": lambda y: y.reshape(6, -1)}


def captured(function, backend="graph"):
    return CapturedFunction(function, [], backend=backend, required=True, same_noise=True)


@pytest.mark.parametrize("view", VIEWS)
@pytest.mark.parametrize("name", RESULTS)
def test_views_of_results_are_those_that_were_recorded(name, view):
    result, shaped = RESULTS[name], VIEWS[view]

    def function(tensors):
        y = result(tensors[0].transpose(1, 2))
        try:
            return [shaped(y), y]
        except RuntimeError:
            return [y.reshape(6, -1), y]

    torch.manual_seed(1)
    expected = function([X])
    torch.manual_seed(1)
    found = captured(function)([X])
    torch.testing.assert_close(list(found), expected, rtol=1e-10, atol=0)


CHANGED = {
    "view": lambda x: (x.add_(1), [x[1:].sum(0), x[1:]])[1],
    "flat view": lambda x: (x.mul_(2), [x.view(-1), x.sum()])[1],
    "itself": lambda x: (x.mul_(2), [x])[1],
    "view of a view": lambda x: (x[0].mul_(2), [x[:2].transpose(0, 1)])[1],
}


@needs_compiler
@pytest.mark.parametrize("name", CHANGED)
def test_a_result_that_lies_in_what_was_changed(name):
    given = X.clone(), X.clone()
    expected = CHANGED[name](given[0])
    function = captured(lambda tensors: CHANGED[name](tensors[0]), backend="inductor")
    found = function([given[1]])
    torch.testing.assert_close(list(found), expected, rtol=1e-12, atol=1e-12)
    torch.testing.assert_close(given[1], given[0], rtol=1e-12, atol=0)


@pytest.mark.parametrize("change", [torch.Tensor.t_, lambda x: x.unsqueeze_(0)], ids=["t_", "unsqueeze_"])
def test_a_shape_changed_in_place_is_refused_by_name(change):
    x = torch.ones(2, 3)
    with pytest.raises(CaptureError, match=r"another shape, by .* t_\(\)"):
        captured(lambda tensors: [change(tensors[0]) * 2])([x])
    assert x.shape == (2, 3)


@pytest.mark.parametrize("lazy", [torch.Tensor.conj, lambda x: x.conj().imag], ids=["conjugate", "negative"])
def test_a_buffer_that_is_not_computed_is_refused_by_name(lazy):
    module = nn.Module()
    module.register_buffer("kept", lazy(torch.ones(3, dtype=torch.complex128)))
    function = CapturedFunction(
        lambda tensors: [(tensors[0] * module.kept).abs()], [module], backend="graph", required=True
    )
    with pytest.raises(CaptureError, match=r"test_layouts.*of shape \(3,\).*resolve_conj\(\)"):
        function([torch.ones(3, dtype=torch.float64)])
