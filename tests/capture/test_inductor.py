"""Contact with Inductor: a failure is tried again without the fusion that fails, and then said."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from ppl_vae.capture import CaptureError, inductor


def test_a_failure_is_tried_again_without_fused_outer_loops(monkeypatch: pytest.MonkeyPatch) -> None:
    cpp = pytest.importorskip("torch._inductor.codegen.cpp")
    fuses = cpp.CppScheduling.can_fuse_vertical_outer_loop

    def compile(*_: Any) -> str:
        if cpp.CppScheduling.can_fuse_vertical_outer_loop is fuses:
            raise KeyError("buf77")
        return "compiled"

    monkeypatch.setattr(inductor, "_compile", compile)
    assert inductor.compile(None, [torch.zeros(1)], torchs_noise=True) == "compiled"  # type: ignore[arg-type]
    assert cpp.CppScheduling.can_fuse_vertical_outer_loop is fuses


def test_a_second_failure_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: Any) -> None:
        raise RuntimeError("no such\nthing")

    monkeypatch.setattr(inductor, "_compile", fail)
    with pytest.raises(CaptureError, match=r"Inductor could not compile the step: RuntimeError: no such$"):
        inductor.compile(None, [torch.zeros(1)], torchs_noise=True)  # type: ignore[arg-type]
