"""Pair: a generative model and its guide, two plain Pyro programs that belong together."""

from __future__ import annotations

import itertools
import weakref
from collections.abc import Callable, Sequence
from typing import Any

import pyro
import torch
from torch import Tensor, nn

from ppl_vae.core.arguments import arguments_of
from ppl_vae.core.program import (
    ProgramModule,
    described,
    joint_arguments,
    needs_owning,
    own_parameters_of,
)

_numbers = itertools.count()


def require_pair(pair: Any) -> None:
    """Raise TypeError for anything but a Pair."""
    if not isinstance(pair, Pair):
        raise TypeError(f"expected a ppl_vae.Pair, got {type(pair).__name__}: write Pair(model, guide)")


class Pair(nn.Module):
    r"""A model p(x, z) and a guide q(z | x): two Pyro programs, called with the same tensors.

    Nothing is inherited and nothing is overridden: Modules whose forward makes `pyro.sample` statements,
    functions, methods, PyroModules, autoguides, or handlers around one of these. They run under any effect
    handler. The plate of independent data sits at `dim=-1`; the latent sites have the same names in both.
    What the programs make by `pyro.param` and `pyro.module` in their first run belongs to the pair.

    Args:
        model: the generative model, called with a batch's tensors.
        guide: the approximate posterior, called with the same tensors. Where the two take different
            ones, each gets those that its arguments name, see `arguments`.
        example: a batch of any size; only the shape and dtype of one datum are kept, so that the
            model can be run without data (`pv.sample`). `pv.fit` and `pv.load` fill it in.
        plate: the name of the plate of independent data. By default "data"; where a program has no plate of
            that name, the only one at `dim=-1` that holds as many as the first batch has.
        vectorize: whether K particles run at once, in a plate of their own, or one by one, in K times the
            time; by default a first run finds out.

    Raises:
        TypeError: when a program cannot be called.
    """

    schema: object | None = None
    """The `data.Schema` of the table that the pair was trained on, by which frames given to it become x."""

    def __init__(
        self,
        model: Callable[..., Any],
        guide: Callable[..., Any],
        example: Sequence[Tensor] = (),
        *,
        plate: str | None = None,
        vectorize: bool | None = None,
    ) -> None:
        super().__init__()
        for role, program in (("model", model), ("guide", guide)):
            if isinstance(program, Pair):
                raise TypeError(f"the {role} is a Pair already: give one program")
            if isinstance(program, type) or not callable(program):
                raise TypeError(
                    f"the {role} must be a torch.nn.Module or a function that makes pyro.sample "
                    f"statements, but is {described(program)}"
                )
        self.arguments = joint_arguments(model, guide)
        """The names of the tensors of a batch, in their order: what the model takes, then what only the
        guide takes; None where a program does not say, `forward(*batch)`."""
        self.met = False
        """Whether the programs have run, so that what their first run makes is there: `meeting.meet`."""
        self.shares = False
        """Whether the guide draws latents that all data share."""
        self.fixed_rows: int | None = None
        """The one number of data that the programs go with, where they have parameters for each datum."""
        self.vectorize = vectorize
        # another pair's
        known = [program for program in (model, guide) if isinstance(program, ProgramModule)]
        self.plate = plate if plate is not None else next((each.plate for each in known), None)
        reasons = [each.one_by_one for each in known if each.one_by_one is not None]
        self.one_by_one = "" if vectorize is False else min(reasons, default=None)
        """Why the programs do not run with several particles at once; "" where they were said not to."""
        self._own = (own_parameters_of(model, guide),)
        self.model: nn.Module = self._as_module(model, needs_owning(model))
        self.guide: nn.Module = self._as_module(guide, needs_owning(guide))
        self.datum_spec: tuple[tuple[torch.Size, torch.dtype], ...] = ()
        self._programs: tuple[Callable[..., Any], Callable[..., Any]] | None = None
        if len(example):
            self.remember(example)

    def own_copies(self) -> None:
        """Let nets that functions name by `pyro.module` stay as they are: the pair trains copies of them."""
        self._own[0].copies = True

    def own(self, plate: str | None, one_by_one: str | None, owning: tuple[bool, bool]) -> None:
        """Take over what a first run found out (`meeting.meet`).

        Args:
            plate: the name of the plate of data, where it is not "data".
            one_by_one: why the programs do not run with several particles at once; None where they do.
            owning: whether model and guide make parameters by `pyro.param`.
        """
        self.plate = plate
        if self.one_by_one is None:
            self.one_by_one = one_by_one
        self.model, self.guide = (
            self._as_module(program, owns)
            for program, owns in zip((self.model, self.guide), owning, strict=True)
        )
        self._programs = None

    def _as_module(self, program: Callable[..., Any], owning: bool) -> nn.Module:
        settings = self.plate, self.arguments, self.one_by_one
        if isinstance(program, ProgramModule):
            if (program.plate, program.arguments, program.one_by_one) == settings:
                return program
            return ProgramModule(program.program, program.own_parameters, *settings)
        takes = arguments_of(program)
        by_name = takes != self.arguments and takes is not None and set(takes) <= set(self.arguments or ())
        special = owning or by_name or self.plate is not None or self.one_by_one is not None
        if isinstance(program, nn.Module) and not special:
            return program
        return ProgramModule(program, self._own[0], *settings)

    @property
    def device(self) -> torch.device:
        """Where the first parameter or buffer lives; the CPU when there is none."""
        for tensor in itertools.chain(self.parameters(), self.buffers()):
            return tensor.device
        return torch.device("cpu")

    @property
    def dtype(self) -> torch.dtype:
        """The dtype of the first floating-point parameter; torch's default when there is none."""
        for parameter in self.parameters():
            if parameter.is_floating_point():
                return parameter.dtype
        return torch.get_default_dtype()

    @property
    def batch_dtypes(self) -> tuple[torch.dtype, ...]:
        """The types of the tensors that the programs take: as remembered,
        real numbers as the parameters have them now.
        """
        trained = any(parameter.is_floating_point() for parameter in self.parameters())
        return tuple(
            self.dtype if dtype.is_floating_point and trained else dtype for _, dtype in self.datum_spec
        )

    def remember(self, batch: Sequence[Tensor]) -> None:
        """Keep the shape and dtype of one datum of `batch`, so that `blank_batch` can imitate it."""
        self.datum_spec = tuple((tensor.shape[1:], tensor.dtype) for tensor in batch)

    def blank_batch(self, size: int) -> tuple[Tensor, ...]:
        """A batch of `size` zeros with the shapes of the data: what an unconditioned model is called with.

        Raises:
            ValueError: when the pair has not seen any data.
        """
        if not self.datum_spec:
            raise ValueError(
                "this pair has not seen data, so the shape of a batch is unknown: train it with "
                "pv.fit, or give an example, Pair(model, guide, example=(x,)) or pair.remember((x,))"
            )
        return tuple(
            torch.zeros((size, *shape), dtype=dtype, device=self.device) for shape, dtype in self.datum_spec
        )

    def pyro(self) -> tuple[Callable[..., Any], Callable[..., Any]]:
        """The two programs with their parameters registered, for stock `pyro.infer.SVI`.

        `SVI(*pair.pyro(), optim, Trace_ELBO()).step(x)` trains the pair in place. The names in Pyro's
        parameter store carry a number of the pair's own, so that two pairs never meet there.
        """
        if self._programs is None:
            name = f"pair{next(_numbers)}"
            # by identity: a parameter that both programs have, such as a VampPrior's encoder, has one name
            names: dict[int, str] = {}
            for role, program in (("model", self.model), ("guide", self.guide)):
                for parameter_name, parameter in program.named_parameters():
                    names.setdefault(id(parameter), f"{name}.{role}$$${parameter_name}")

            def registered(role: str, program: nn.Module) -> Callable[..., Any]:
                # pyro.module warns about frozen parameters; a frozen program has nothing to register
                def run(*batch: Any, **kwargs: Any) -> Any:
                    for parameter_name, parameter in program.named_parameters():
                        if parameter.requires_grad:
                            own = f"{name}.{role}$$${parameter_name}"
                            pyro.param(names.get(id(parameter), own), parameter)
                    result = program(*batch, **kwargs)
                    # a PyroModule, while it runs, takes away what Pyro's store writes on parameters
                    for parameter in self.parameters():
                        parameter.unconstrained = weakref.ref(parameter)  # type: ignore[attr-defined]
                    return result

                return run

            self._programs = registered("model", self.model), registered("guide", self.guide)
            self._store_prefix = name + "."
        return self._programs

    def forget_pyro(self) -> None:
        """Take this pair's names out of Pyro's parameter store again."""
        if self._programs is not None:
            store = pyro.get_param_store()
            for name in [key for key in store.keys() if key.startswith(self._store_prefix)]:  # noqa: SIM118
                del store[name]

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_programs": None}  # closures do not pickle, and a copy needs its own
