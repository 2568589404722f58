"""The two programs as a code needs them: site after site, and with the same floats every time."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, Literal

import torch
from pyro.poutine.messenger import Messenger
from torch import Tensor

from ppl_vae.core.elements import elements
from ppl_vae.core.isolation import random_numbers, validation
from ppl_vae.core.pair import Pair
from ppl_vae.core.sites import PairError, is_bookkeeping
from ppl_vae.core.succession import succession
from ppl_vae.queries.handlers import run

Role = Literal["model", "guide"]
Act = Callable[[str, Any, Tensor | None], Tensor]
"""Of a site's name, the distribution of its elements (of a latent perhaps a `Succession`) and its value (None
of a latent): the value to have.
"""

GUIDES = (
    "Use a guide that draws its numbers by themselves, or one after the other, such as guides.MeanField or "
    "FullRank"
)
PRIORS = (
    "Use a prior whose numbers are independent, or come one after the other, such as priors.StandardNormal "
    "or MixtureOfGaussians"
)
LIKELIHOODS = "Only what factorises is coded, element by element: use one of ppl_vae.likelihoods"


def latent_parts(fn: Any, name: str, role: Role) -> Any:
    """The distribution of a latent site's elements, or its parts one after the other.

    Raises:
        PairError: where it has neither.
    """
    return succession(fn) or elements(fn, name, GUIDES if role == "guide" else PRIORS)


class Visit(Messenger):
    """Gives every site the value that a function says, one after the other."""

    def __init__(self, act: Act, role: Role) -> None:
        super().__init__()
        self.act, self.role = act, role
        self.seen: list[str] = []

    def _pyro_sample(self, msg: Any) -> None:
        if is_bookkeeping(msg) or (msg["is_observed"] and self.role == "guide"):
            return
        fn = (
            elements(msg["fn"], msg["name"], LIKELIHOODS)
            if msg["is_observed"]
            else latent_parts(msg["fn"], msg["name"], self.role)
        )
        self.seen.append(msg["name"])
        msg["value"] = self.act(msg["name"], fn, msg["value"] if msg["is_observed"] else None)
        msg["done"] = True


class Programs:
    """A copy of a pair on the CPU, in one type of real numbers.

    Args:
        pair: the pair, which stays as it is.
        dtype: the type.
    """

    def __init__(self, pair: Pair, dtype: torch.dtype) -> None:
        self.pair = copy.deepcopy(pair).cpu().to(dtype).eval()
        self.dtype = dtype
        self.known: dict[Role, list[str]] = {}

    def batch(self, tensors: Sequence[Tensor]) -> tuple[Tensor, ...]:
        """A batch with its real numbers in the programs' type."""
        return tuple(each.to(self.dtype) if each.is_floating_point() else each for each in tensors)

    def run(self, role: Role, batch: Sequence[Tensor], act: Act, seed: int) -> None:
        """Run a program on a batch; what it draws at random by itself comes from the seed.

        Raises:
            PairError: where it makes other sites than for other data.
        """
        program = self.pair.model if role == "model" else self.pair.guide
        visit = Visit(act, role)
        with random_numbers(seed, torch.device("cpu")):
            run(program, self.batch(batch), visit)
        known = self.known.setdefault(role, visit.seen)
        if known != visit.seen:
            raise PairError(
                f"the {role} makes the sites {known} for some data and {visit.seen} for others, and a "
                "decoder cannot know which: give data of one kind at a time"
            )


@contextmanager
def exact(dtype: torch.dtype) -> Iterator[None]:
    """Within it new tensors are of this type, nothing has a gradient, and nothing is validated."""
    before = torch.get_default_dtype()
    torch.set_default_dtype(dtype)
    try:
        with torch.no_grad(), validation(False):
            yield
    finally:
        torch.set_default_dtype(before)
