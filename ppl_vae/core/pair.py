"""Pair: a generative model and its guide, two plain Pyro programs that belong together."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence
from typing import Any

import pyro
import torch
from torch import Tensor, nn

_numbers = itertools.count()


def _described(program: Any) -> str:
    if isinstance(program, type):
        return f"the class {program.__name__}: give an object of it, {program.__name__}(...)"
    if isinstance(program, Pair):
        return "a Pair already: give one program"
    return f"{type(program).__name__}: put the program in a Module's forward"


def require_pair(pair: Any) -> None:
    """Raise TypeError for anything but a Pair."""
    if not isinstance(pair, Pair):
        raise TypeError(f"expected a ppl_vae.Pair, got {type(pair).__name__}: write Pair(model, guide)")


class Pair(nn.Module):
    r"""A model p(x, z) and a guide q(z | x), both `torch.nn.Module`s that make `pyro.sample` statements.

    Nothing is inherited and nothing is overridden: `model(*batch)` and `guide(*batch)` run as Pyro
    programs under any effect handler. The plate of independent data is called `data` and sits at
    `dim=-1`; the latent sites have the same names in both programs.

    Args:
        model: the generative model, called with a batch's tensors.
        guide: the approximate posterior, called with the same tensors.
        example: a batch of any size; only the shape and dtype of one datum are kept, so that the
            model can be run without data (`pv.sample`). `pv.fit` and `pv.load` fill it in.

    Raises:
        TypeError: when a program is not a `torch.nn.Module`.
    """

    def __init__(self, model: nn.Module, guide: nn.Module, example: Sequence[Tensor] = ()) -> None:
        super().__init__()
        for role, program in (("model", model), ("guide", guide)):
            if not isinstance(program, nn.Module):
                raise TypeError(
                    f"the {role} must be a torch.nn.Module whose forward makes pyro.sample "
                    f"statements, but is {_described(program)}"
                )
        self.model = model
        self.guide = guide
        self.datum_spec: tuple[tuple[torch.Size, torch.dtype], ...] = ()
        self._programs: tuple[Callable[..., Any], Callable[..., Any]] | None = None
        if len(example):
            self.remember(example)

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
                    return program(*batch, **kwargs)

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
