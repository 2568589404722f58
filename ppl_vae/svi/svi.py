"""SVI: Pyro's SVI as a captured step, for loops and programs of one's own."""

from __future__ import annotations

import warnings
from typing import Any, Literal

import torch
from pyro import poutine
from pyro.infer import SVI as PyroSVI
from pyro.poutine.runtime import _PYRO_STACK
from pyro.util import warn_if_nan
from torch import Tensor, nn

from ppl_vae.capture import CaptureError
from ppl_vae.core.isolation import one_thread
from ppl_vae.core.running import registered
from ppl_vae.svi.call import Call
from ppl_vae.svi.program import CapturedProgram, Loss
from ppl_vae.svi.pyro_step import Kind

EAGER_STEPS = 1000
"""With `capture="auto"`, so many steps of a shape run as Pyro's own before a graph is made for it."""


class SVI(PyroSVI):
    r"""`pyro.infer.SVI`, and with `capture=True` its step run as one compiled graph of tensor operations.

    Change the import, and nothing else: programs are functions with `pyro.param` and `pyro.module`,
    `PyroModule`s or `nn.Module`s, parameters stay in Pyro's store, and optimizers are Pyro's. Recorded
    is what Pyro's step does, so the mathematics is that of the loss that is given.

    What a captured step promises. Inside the programs only these may change from step to step: tensors
    (parameters, buffers, arguments, and any other tensor that is changed in place); the other arguments, the
    numbers, tuples of numbers and functions that are attributes of a model or guide that is a module, and
    model, guide and loss themselves, each value of which has a graph of its own; learning rates, schedulers'
    too. Any other value of Python's (a global, an entry of a dictionary, what an iterator gives next) is
    inside the graph, and must stay what it was. To find out whether it did, the programs run twice when a
    graph is made, with other random numbers, and again after 1, 2, 4, 8, ... and then about every thousand
    captured steps, in at most 2 % of the time. Where they do not do the same, a `CaptureError` names the
    line, the old and the new value and the steps, and the parameters and the optimizer are back to where
    both agreed, unless something else moved them meanwhile. `verify()` does so at once: call it
    before you rely on the last steps.

    A step runs as Pyro's own where a graph has no place for it: the first of each shape, which makes the
    parameters and their optimizers; under `torch.no_grad`, autocast or handlers from outside; and after
    the store was loaded or cleared.

    A captured step differs from Pyro's in this: its random numbers follow torch's seed, but are others;
    values are not validated; `grad` is neither read nor filled; on a CPU subnormal numbers count as zero;
    what programs do besides (leave something in an attribute, print) they do when they are recorded, and not
    at each step.

    Args:
        model: a Pyro program.
        guide: the approximate posterior, a Pyro program.
        optim: of `pyro.optim`, with schedulers, options for each parameter, and clipping; after a graph Adam,
            AdamW, Adamax and ClippedAdam in float32 on a CPU move all parameters at once, any other makes
            its own step for each.
        loss: of `pyro.infer`, of `ppl_vae.estimators`, or a function as Pyro takes it.
        loss_and_grads: as of Pyro's.
        capture: True captures each shape after its first step, which takes some seconds, and what
            cannot be captured is an error. "auto" captures a shape that has come a thousand times, and where
            it cannot be captured, or no longer, goes on as Pyro's own after one warning. False, the default,
            never captures.

    Raises:
        CaptureError: from the calls, with `capture=True`: names the site or the line, and the reason.

    Attributes:
        graphs: how many there are, of steps and evaluations.
        seconds: spent on capturing and compiling so far.

    >>> import pyro, torch
    >>> import pyro.distributions as dist
    >>> import ppl_vae as pv
    >>> def model(x):
    ...     z = pyro.sample("z", dist.Normal(0.0, 1.0))
    ...     with pyro.plate("data", len(x)):
    ...         pyro.sample("x", dist.Normal(z, 1.0), obs=x)
    >>> def guide(x):
    ...     loc = pyro.param("loc", torch.tensor(0.0))
    ...     pyro.sample("z", dist.Normal(loc, 0.5))
    >>> svi = pv.SVI(model, guide, pyro.optim.Adam({"lr": 0.01}), pyro.infer.Trace_ELBO())
    >>> loss = svi.step(torch.ones(20))
    """

    def __init__(
        self,
        model: Any,
        guide: Any,
        optim: Any,
        loss: Any,
        loss_and_grads: Any = None,
        *,
        capture: bool | Literal["auto"] = False,
        **kwargs: Any,
    ) -> None:
        if capture not in (True, False, "auto"):
            raise ValueError(f"capture must be 'auto', True or False, got {capture!r}")
        super().__init__(model, guide, optim, loss, loss_and_grads, **kwargs)
        self.capture = capture
        self._captured = self._uncaptured()

    def _uncaptured(self) -> dict[Kind, CapturedProgram | None]:
        return {
            kind: CapturedProgram(self, kind) if self.capture else None for kind in ("step", "evaluate_loss")
        }

    def __getstate__(self) -> dict[str, Any]:
        return {key: each for key, each in vars(self).items() if key != "_captured"}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        self._captured = self._uncaptured()  # a copy's graphs are its own

    @property
    def graphs(self) -> int:
        """How many graphs there are, of steps and evaluations."""
        return sum(each.graphs for each in self._captured.values() if each is not None)

    @property
    def seconds(self) -> float:
        """Spent on capturing and compiling so far."""
        return sum(each.seconds for each in self._captured.values() if each is not None)

    def step(self, *args: Any, **kwargs: Any) -> Any:
        """Take a gradient step; the loss before it, a float (a tuple of them for `ReweightedWakeSleep`).

        To know the number, a GPU has to be waited for: `step_tensor` does not.
        """
        return _numbers(self._run("step", args, kwargs))

    def step_tensor(self, *args: Any, **kwargs: Any) -> Loss:
        """The same, with the loss as a 0-d tensor: once captured, nothing waits for it."""
        return _tensors(self._run("step", args, kwargs))

    def evaluate_loss(self, *args: Any, **kwargs: Any) -> Any:
        """The loss, without a gradient step, as a float.

        As in Pyro the modules stay in the mode they are in: a BatchNorm in training mode goes on
        learning its means, unless `eval()` is called first.
        """
        return _numbers(self._run("evaluate_loss", args, kwargs))

    @one_thread
    def verify(self) -> None:
        """Hold the captured steps since the last comparison against the programs as they are now.

        Raises:
            CaptureError: where they are other programs; the parameters and the optimizer are back then.
            RuntimeError: within handlers, `torch.no_grad` or autocast.
        """
        if not _can_be_traced("step"):
            raise RuntimeError(
                "SVI.verify() compares under what captured steps run under: call it outside of handlers, "
                "no_grad and autocast"
            )
        for captured in self._captured.values():
            if captured is not None:
                captured.verify()

    @one_thread
    def _run(self, kind: Kind, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        captured = self._captured[kind]
        if captured is None or not _can_be_traced(kind):
            return self._run_eager(kind, args, kwargs)
        try:
            call = Call(args, kwargs)
            loss = captured.run(call, 0 if self.capture is True else EAGER_STEPS)
        except CaptureError as error:
            if self.capture is True:
                raise
            self._captured[kind] = None
            warnings.warn(
                f"SVI.{kind} runs as Pyro's own, since it cannot be captured: {error}", stacklevel=3
            )
            return self._run_eager(kind, args, kwargs)
        if loss is not None:
            return loss
        modules: dict[nn.Module, None] = {}
        with poutine.trace(param_only=True) as seen, registered(modules):
            eager = self._run_eager(kind, args, kwargs)
        captured.note(call, seen.trace.nodes, modules)
        return eager

    def _run_eager(self, kind: Kind, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        run = super().step if kind == "step" else super().evaluate_loss
        return run(*args, **kwargs)


def _can_be_traced(kind: Kind) -> bool:
    """Whether nothing from outside takes part in a step that a graph would not have inside."""
    return (
        not _PYRO_STACK
        and not torch.is_inference_mode_enabled()
        and not torch.is_autocast_enabled("cpu")
        and not torch.is_autocast_enabled("cuda")
        and (kind != "step" or torch.is_grad_enabled())
    )


def _numbers(loss: Any) -> Any:
    if isinstance(loss, tuple):
        return type(loss)(map(_numbers, loss))
    if not isinstance(loss, Tensor):
        return loss
    number = loss.item()
    warn_if_nan(number, "loss")
    return number


def _tensors(loss: Any) -> Loss:
    if isinstance(loss, tuple):
        return tuple(map(_tensors, loss))  # type: ignore[arg-type]
    return torch.as_tensor(loss)
