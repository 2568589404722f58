"""Graphs that are known by what was recorded: the same as those that are compiled, or compiled again."""

from __future__ import annotations

import copy
import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from ppl_vae.capture.function import CapturedFunction
from ppl_vae.capture.signature import Signature
from ppl_vae.compiler import known
from ppl_vae.estimators import IWAE
from tests.capture.helpers import captured_step, convolutional, images, needs_compiler, sgd, vae

pytestmark = needs_compiler


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where graphs are kept during a test."""
    monkeypatch.setattr(known, "_path", lambda signature: tmp_path / f"{signature.key}.json")
    return tmp_path


@pytest.fixture
def found(monkeypatch: pytest.MonkeyPatch) -> list[bool]:
    """Whether a graph was known, one after the other."""
    answers: list[bool] = []
    find = known.find

    def asked(signature: Signature) -> Any:
        run = find(signature)
        answers.append(run is not None)
        return run

    monkeypatch.setattr(known, "find", asked)
    return answers


class Net(torch.nn.Module):
    """What a program may do with tensors besides computing: constants, places, results that are inputs."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = torch.nn.Parameter(torch.randn(3, 4))
        self.register_buffer("count", torch.zeros(()))
        self.scale = 0.5

    def forward(self, tensors: Sequence[Tensor]) -> list[Tensor]:
        x = tensors[0]
        with torch.no_grad():
            self.count.add_(x.sum())
            x.mul_(torch.tensor([1.0, -1.0, 2.0]))
        constant = torch.tensor([[0.1], [0.2], [0.3]])
        constant.add_(1)
        product = torch.nn.functional.softplus(x @ self.weight) * self.scale + torch.rand(5, 1)
        draws = torch.bmm(product[None], self.weight.t()[None])
        return [product, draws, x, x.t(), self.weight, constant, product[:2], torch.zeros(0)]


@pytest.mark.slow
def test_a_known_graph_is_the_compiled_one(folder, found):
    torch.manual_seed(0)
    first, x = Net(), torch.randn(5, 3)
    second, y = copy.deepcopy(first), x.clone()
    results: list[list[Tensor]] = []
    versions = []
    for net, inputs in ((first, x), (second, y)):
        run = CapturedFunction(net, [net], required=True)
        torch.manual_seed(1)
        given = run([inputs])
        assert not any(each.requires_grad or each is net.weight or each is inputs for each in given)
        assert given[4].data_ptr() == net.weight.data_ptr()
        results.append([each.clone() for each in given])
        before = inputs._version, net.count._version, net.weight._version
        results[-1] += [each.clone() for each in run([inputs])]
        now = inputs._version, net.count._version, net.weight._version
        versions.append([two - one for one, two in zip(before, now, strict=True)])
    assert found == [False, True]
    assert len([*folder.iterdir()]) == 1
    for each, other in zip(*results, strict=True):
        assert each.stride() == other.stride()
        assert torch.equal(each, other)
    assert torch.equal(x, y)
    assert torch.equal(first.count, second.count)
    assert versions == [[1, 1, 0]] * 2, "as often as autograd has to see them changed"


@pytest.mark.slow
@pytest.mark.parametrize("make", [vae, pytest.param(convolutional, marks=pytest.mark.grid)])
def test_a_known_step_is_the_compiled_one(make, folder, found):
    losses, data = [], images(dtype=torch.float32, side=8 if make is convolutional else 4)
    for _ in range(2):
        pair = make(dtype=torch.float32)
        step = captured_step(pair, IWAE(2), sgd(pair), backend="inductor", clip_norm=1.0)
        torch.manual_seed(0)
        losses.append(torch.stack([step(data) for _ in range(3)]))
    assert found == [False, True]
    assert torch.equal(*losses)


def plain(tensors: Sequence[Tensor]) -> list[Tensor]:
    return [tensors[0].exp() @ tensors[0].t()]


def run(function: Callable[..., Any] = plain, x: Tensor | None = None) -> Tensor:
    x = torch.linspace(0, 1, 6).view(2, 3) if x is None else x
    return CapturedFunction(function, [], required=True)([x])[0]


@pytest.mark.parametrize("damage", ["cut", "empty", "library", "native", "names"])
def test_a_damaged_one_is_compiled_again(damage, folder, found, monkeypatch):
    expected = run()
    (path,) = folder.iterdir()
    kept = json.loads(path.read_text())
    if damage == "native":  # as in a process that has not loaded it yet
        monkeypatch.setattr(known.native, "_loaded", {})
    changed = kept | {"kernels": {"other": 7}}
    if damage in kept:  # half of a library would end the process
        whole = Path(kept[damage]).read_bytes()
        (folder / "half.so").write_bytes(whole[: len(whole) // 2])
        changed = kept | {damage: str(folder / "half.so")}
    path.write_text({"cut": path.read_text()[:50], "empty": ""}.get(damage, json.dumps(changed)))
    torch.testing.assert_close(run(), expected)
    assert found == [False, False]
    assert known.native.library() is not None


def test_what_decides_is_in_the_signature(folder, found, monkeypatch):
    def other(tensors: Sequence[Tensor]) -> list[Tensor]:
        return [(tensors[0] + constant).exp() @ tensors[0].t()]

    run()
    expected = [False, True]
    run()
    threads = torch.get_num_threads()
    try:
        torch.set_num_threads(threads + 1)
        run()
    finally:
        torch.set_num_threads(threads)
    run(x=torch.ones(3, 2).t())
    run(x=torch.ones(2, 3, dtype=torch.float64))
    constant: Any  # read by `other`
    for constant in (0.0, -0.0, 1, True):  # noqa: B007
        run(other)
    with torch._inductor.config.patch(max_autotune_gemm_backends="ATEN"):
        run()
    assert found == [*expected, *[False] * 8]


def test_what_is_not_kept(folder, found):
    """Inputs that share memory, and operators that may become others under their names."""
    library = torch.library.Library("test_known", "FRAGMENT")
    library.define("twice(Tensor x) -> Tensor")
    library.impl("twice", lambda x: 2 * x, "CPU")
    library.impl("twice", torch.empty_like, "Meta")
    run(lambda tensors: [torch.ops.test_known.twice(tensors[0])])
    view = torch.ones(6)
    CapturedFunction(lambda tensors: [tensors[0] + tensors[1]], [], required=True)([view[:3], view[3:]])
    with torch._inductor.config.patch(force_disable_caches=True):
        run()
    assert not [*folder.iterdir()]
    assert not found


def test_a_file_where_the_folder_should_be_costs_no_step(tmp_path, monkeypatch):
    (tmp_path / "ppl_vae").touch()
    monkeypatch.setattr(known, "_path", lambda signature: tmp_path / "ppl_vae" / f"{signature.key}.json")
    x = torch.linspace(-1, 1, 7)
    (found,) = CapturedFunction(lambda tensors: [tensors[0].sigmoid()], [], required=True)([x])
    torch.testing.assert_close(found, x.sigmoid())
