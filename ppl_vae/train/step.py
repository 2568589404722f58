"""One gradient step: draw the particles, follow the estimator's gradient, move the parameters."""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, Literal

import torch
from pyro.infer import ELBO as PyroELBO
from torch import Tensor, nn

from ppl_vae.capture import CaptureError
from ppl_vae.capture.capture_error import NotWorth
from ppl_vae.compiler.rewrites.rounding import MatmulPrecision
from ppl_vae.core.pair import Pair
from ppl_vae.data import Split
from ppl_vae.kl import KLPlan
from ppl_vae.train.captured_step import CapturedStep
from ppl_vae.train.not_finite import NotFinite
from ppl_vae.train.objective import Objective, Terms

if TYPE_CHECKING:  # importing it takes as long as torch
    from lightning_fabric import Fabric

Capture = bool | Literal["auto"]


class Step:
    """One gradient step as an object.

    Args:
        pair: the pair, on its device.
        estimator: ours or Pyro's.
        optimizer: a torch optimizer over the pair's parameters.
        clip_norm: the largest norm of the whole gradient; None does not clip.
        skip_norm: leave a step out where that norm is above this, or not a number; None for never.
        check_finite: raise before a loss that is not finite moves the parameters. It makes a GPU wait.
        fabric: what prepares the pair for its devices; None for a step of one's own on one device.
        kl: what is done to the KL term, its penalties made; `set_epoch` moves it. None leaves it alone.
        capture: run the step as one compiled graph (`ppl_vae.capture`). What cannot be captured runs as
            written after one warning, "auto", or is an error, True.
        steps: how many there are to be, by the batch's size: a size that would not repay its compilation
            runs as written. None captures each.
        matmul_precision: of a captured step's matrix products, see `CapturedStep`.

    Raises:
        CaptureError: with `capture=True`, here or from a step: names the site or the line and the reason.
    """

    def __init__(
        self,
        pair: Pair,
        estimator: PyroELBO,
        optimizer: torch.optim.Optimizer,
        *,
        clip_norm: float | None = None,
        skip_norm: float | None = None,
        check_finite: bool = True,
        fabric: Fabric | None = None,
        kl: KLPlan | None = None,
        capture: Capture = False,
        steps: Mapping[int, int] | None = None,
        matmul_precision: MatmulPrecision = "float32",
    ) -> None:
        self.pair = pair
        self._kl = kl
        self.clip_norm = clip_norm
        self.skip_norm = skip_norm
        self.check_finite = check_finite
        self._objective = Objective(pair, estimator)
        self._objective.penalties = kl.penalties if kl is not None else {}
        self._forward: Any = self._objective
        self._optimizer: Any = optimizer
        self._fabric = fabric if fabric is not None and fabric.world_size > 1 else None
        if self._fabric is not None:
            self._forward, self._optimizer = self._fabric.setup(self._objective, optimizer)
        self._sums: Terms = {}
        self._count = 0
        self.capture: Capture = capture
        self.steps = steps
        self._as_written: set[int] = set()
        self.matmul_precision: MatmulPrecision = matmul_precision
        self.captured: CapturedStep | None = None
        if capture:
            self._start_capture()

    def set_learning_rate(self, learning_rate: float) -> None:
        """The optimizer's learning rate from now on; groups with one of their own keep the ratio."""
        for group in self._optimizer.param_groups:
            group["lr"] = learning_rate * group.get("lr_scale", 1.0)

    def set_epoch(self, epoch: float) -> None:
        """Move what is done to the KL term to `epoch` epochs of training, a fraction allowed."""
        if self._kl is not None:
            self.set_kl_weight(self._kl.at(epoch))
            self._kl.set_epoch(epoch)

    def set_kl_weight(self, weights: Mapping[str, float]) -> None:
        """The weight of each latent site's KL term from now on, as 0-d tensors."""
        known = self._objective.kl_weight
        if set(known) != set(weights):
            dtype, device = self.pair.dtype, self.pair.device
            self._objective.kl_weight = {
                site: torch.tensor(weight, dtype=dtype, device=device) for site, weight in weights.items()
            }
        else:
            for site, weight in weights.items():
                known[site].fill_(weight)

    def __call__(self, *batch: Tensor) -> Tensor:
        """Move the parameters once; the loss before that, in nats per datum, without a graph.

        Raises:
            NotFinite: with `check_finite`, for a loss that is NaN or infinite.
        """
        loss = self._run_captured(len(batch[0]), lambda captured: captured(*batch))
        return self._run_eager(batch) if loss is None else loss

    def on(self, split: Split, index: Tensor) -> Tensor:
        """The same on `split.batch(index)`; a captured step makes the batch inside its graph.

        Raises:
            NotFinite: with `check_finite`, for a loss that is NaN or infinite.
        """
        loss = self._run_captured(len(index), lambda captured: captured.on(split, index))
        return self(*split.batch(index)) if loss is None else loss

    def _start_capture(self) -> None:
        try:
            if self._fabric is not None:
                raise CaptureError("a training on several devices synchronises its gradients within the step")
            self.captured = CapturedStep(
                self._objective,
                self._optimizer,
                clip_norm=self.clip_norm,
                skip_norm=self.skip_norm,
                check_finite=self.check_finite,
                matmul_precision=self.matmul_precision,
                steps=self.steps,
            )
        except CaptureError as error:
            self._give_up(error)

    def _give_up(self, error: CaptureError) -> None:
        if self.capture is True:
            raise error
        self._take_sums()
        self.captured = None
        warnings.warn(f"the step runs as written, since it cannot be captured: {error}", stacklevel=4)

    def verify(self, at_once: bool = True) -> None:
        """Hold the captured step against the programs, as they are now; where they differ,
        the parameters go back.

        Args:
            at_once: or only if that takes no more than its share of the time.

        Raises:
            CaptureError: with `capture=True`; with "auto" the steps run as written from here on, after a
                warning.
        """
        try:
            if self.captured is not None:
                self.captured.verify(at_once)
        except CaptureError as error:
            self._give_up(error)

    def _run_captured(self, size: int, run: Callable[[CapturedStep], Tensor]) -> Tensor | None:
        """The loss of a captured step; None where the step is to run as written."""
        if self.captured is None or size in self._as_written:
            return None
        try:
            loss = run(self.captured)
        except NotWorth:
            self._as_written.add(size)
            return None
        except CaptureError as error:
            self._give_up(error)
            return None
        if self.check_finite and not math.isfinite(loss.item()):
            raise NotFinite(f"the loss is {loss.item()}")
        self._count += size
        return loss

    def _run_eager(self, batch: tuple[Tensor, ...]) -> Tensor:
        self._optimizer.zero_grad(set_to_none=True)
        loss, terms = self._forward(*batch)
        if self.check_finite and not math.isfinite(loss.item()):
            raise NotFinite(f"the loss is {loss.item()}")
        if loss.requires_grad:
            if self._fabric is None:
                loss.backward()
            else:
                self._fabric.backward(loss)
        kept = True
        if self.clip_norm is not None or self.skip_norm is not None:
            largest = math.inf if self.clip_norm is None else self.clip_norm
            norm = nn.utils.clip_grad_norm_(self._objective.parameters(), largest)
            if self.skip_norm is not None:
                kept = bool(norm <= self.skip_norm)
                rows = len(batch[0])
                terms |= {"skipped": loss.new_tensor(rows * (not kept)), "gradient_norm": norm * rows}
        if kept:
            self._optimizer.step()
        for penalty in self._objective.penalties.values():
            penalty.learn(self._fabric.all_reduce if self._fabric is not None else None)
        self._add(terms, len(batch[0]))
        if self.captured is not None:
            self.captured.after_eager_step()
        return loss.detach()

    def _add(self, terms: Terms, count: int) -> None:
        # summed on the device, in float64, so that a step never waits and an epoch's mean is exact
        for name, term in terms.items():
            term = term.double() if term.device.type != "mps" else term
            self._sums[name] = self._sums[name] + term if name in self._sums else term
        self._count += count

    def _take_sums(self) -> None:
        if self.captured is not None:
            self._add(self.captured.pop(), 0)

    def pop_means(self) -> dict[str, float]:
        """The terms' means over the data seen since the last call, in nats per datum."""
        self._take_sums()
        sums, count = self._sums, self._count
        if self._fabric is not None:
            everything = {"count": torch.tensor(float(count)), **sums}
            reduced: Any = self._fabric.all_reduce(everything, reduce_op="sum")
            count, sums = int(reduced.pop("count").item()), reduced
        self._sums, self._count = {}, 0
        return {name: term.item() / max(count, 1) for name, term in sums.items()}
