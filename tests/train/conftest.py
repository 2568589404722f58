from __future__ import annotations

import pytest

from ppl_vae.train import step as step_module
from ppl_vae.train.captured_step import CapturedStep


@pytest.fixture
def uncompiled(monkeypatch):
    """`fit` with captured steps that are not compiled; they are listed."""
    made = []

    def make(*arguments, **options):
        made.append(CapturedStep(*arguments, **options, backend="graph", same_noise=True))
        return made[-1]

    monkeypatch.setattr(step_module, "CapturedStep", make)
    return made
