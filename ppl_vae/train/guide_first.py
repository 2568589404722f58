"""More steps of the guide than of the model: against posteriors that collapse because the guide lags."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import Tensor

from ppl_vae.core.checks import check_count
from ppl_vae.core.pair import Pair


class GuideFirst:
    r"""Adam for `fit`, under which the guide takes `every` steps for each one of the model.

    While the guide is far from the model's posterior, what z says is noise, and a strong decoder learns to do
    without it before the guide has caught up: KL(q || p) falls to zero and stays there. Here the model waits
    for the guide, for the first `until` gradient steps; then both move together. What model and guide share
    moves with the guide. He et al. ask instead after each step how far the guide has come; a fixed number
    costs no evaluation.

    Args:
        pair: whose model waits.
        every: the model moves in each such step alone.
        until: gradient steps after which nothing waits any more; None for the whole training.

    Raises:
        ValueError: for numbers below 1.

    He et al., Lagging Inference Networks and Posterior Collapse in Variational Autoencoders,
    arXiv:1901.05534.

    >>> from ppl_vae import Pair, data, estimators, fit, guides, models, nets
    >>> pair = Pair(models.LinearGaussian(2, 5), guides.MeanField(nets.MLPEncoder((5,), 2)))
    >>> lagging = GuideFirst(pair, every=5, until=100)
    >>> run = fit(pair, estimators.ELBO(), torch.randn(50, 5), epochs=2, optimizer=lagging, progress=False)
    """

    def __init__(self, pair: Pair, every: int = 10, until: int | None = None) -> None:
        check_count("every", every)
        if until is not None:
            check_count("until", until, "or None")
        self.pair, self.every, self.until = pair, every, until

    def __call__(self, parameters: Iterable[Tensor], lr: float) -> torch.optim.Optimizer:
        """The optimizer of some parameters, as `fit` asks for it."""
        of_guide = {id(parameter) for parameter in self.pair.guide.parameters()}
        waiting = [each for each in self.pair.model.parameters() if id(each) not in of_guide]
        return Waiting(parameters, waiting, self.every, self.until, lr)

    def __repr__(self) -> str:
        return f"GuideFirst(every={self.every}, until={self.until})"


class Waiting(torch.optim.Adam):
    """Adam that leaves some of its parameters alone in all but each `every`-th of its first steps.

    Args:
        parameters: all of them.
        waiting: those that wait.
        every, until: see `GuideFirst`.
        lr: the learning rate.
    """

    def __init__(
        self,
        parameters: Iterable[Tensor],
        waiting: Iterable[Tensor],
        every: int,
        until: int | None,
        lr: float,
    ) -> None:
        super().__init__(parameters, lr=lr)
        self._waiting = list(waiting)
        # in the group, so that a training that is resumed goes on counting
        self.param_groups[0].update(every=every, until=until, taken=0)

    def step(self, closure: Callable[[], Any] | None = None) -> Any:  # type: ignore[override]
        """Move what is to move now."""
        group = self.param_groups[0]
        group["taken"] += 1
        early = group["until"] is None or group["taken"] <= group["until"]
        if early and group["taken"] % group["every"]:
            for parameter in self._waiting:
                parameter.grad = None  # Adam passes over what has none
        return super().step(closure)
