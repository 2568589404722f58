"""with_keywords: a function of `FitOptions` that takes them as keywords, with types, defaults and help."""

from __future__ import annotations

import functools
import inspect
import re
from collections.abc import Callable
from typing import Any, Concatenate, ParamSpec, TypeVar

from pyro.infer import ELBO as PyroELBO

from ppl_vae.core.pair import Pair
from ppl_vae.train.options import Data, FitOptions

Keywords = ParamSpec("Keywords")
Result = TypeVar("Result")


def with_keywords(
    options: Callable[Keywords, FitOptions],
) -> Callable[
    [Callable[[Pair, PyroELBO, Data, FitOptions], Result]],
    Callable[Concatenate[Pair, PyroELBO, Data, Keywords], Result],
]:
    """A function of (pair, estimator, data, options) as one that takes the options as keywords,
    and shows them.

    Args:
        options: `FitOptions`, whose fields become the keywords, and whose arguments' help joins the
            docstring.
    """

    def decorate(function: Any) -> Any:
        @functools.wraps(function)
        def wrapper(pair: Pair, estimator: PyroELBO, data: Data, **keywords: Any) -> Any:
            return function(pair, estimator, data, FitOptions.of(keywords))

        own = list(inspect.signature(function).parameters.values())[:3]
        given = [
            each.replace(kind=each.KEYWORD_ONLY) for each in inspect.signature(FitOptions).parameters.values()
        ]
        wrapper.__signature__ = inspect.Signature(  # type: ignore[attr-defined]
            [*own, *given], return_annotation=inspect.signature(function).return_annotation
        )
        wrapper.__annotations__ = {
            **{name: each for name, each in function.__annotations__.items() if name != "options"},
            **{name: each for name, each in FitOptions.__annotations__.items()},
        }
        wrapper.__doc__ = _joined(function.__doc__ or "", FitOptions.__doc__ or "")
        return wrapper

    return decorate


def _joined(docstring: str, options: str) -> str:
    """A docstring whose arguments go on with those of another."""
    helped = inspect.cleandoc(options).partition("Args:\n")[2].partition("\n\n")[0]
    return re.sub(r"\n *options:[^\n]*", lambda _: f"\n{helped}", inspect.cleandoc(docstring), count=1)
