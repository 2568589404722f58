"""Which of a data set's arrays a pair's programs are called with: by name, or in order without names."""

from __future__ import annotations

import inspect
from collections.abc import Sequence
from dataclasses import replace
from typing import Any, NamedTuple, overload

from ppl_vae.core.arguments import POSITIONAL, parameters_of
from ppl_vae.core.pair import Pair
from ppl_vae.data.data_error import DataError
from ppl_vae.data.dataset import DataSet
from ppl_vae.data.naming import IN_ORDER, Naming, names_in_order
from ppl_vae.data.split import Split


class Taken(NamedTuple):
    """What a program is called with.

    Attributes:
        names: of the arguments that a batch can give, in order.
        required: those without a default.
        by_keyword: those that no batch can give.
        any_keyword: whether it takes any other by keyword, `**kwargs`.
    """

    names: tuple[str, ...]
    required: tuple[str, ...]
    by_keyword: tuple[str, ...] = ()
    any_keyword: bool = False


@overload
def for_pair(data: DataSet, pair: Pair) -> DataSet: ...


@overload
def for_pair(data: Split, pair: Pair) -> Split: ...


@overload
def for_pair(data: DataSet | Split, pair: Pair) -> DataSet | Split: ...


def for_pair(data: DataSet | Split, pair: Pair) -> DataSet | Split:
    """The same data, with the batches that a pair's programs are called with.

    An array goes to the argument of its name, and one that no program takes is not sent. An argument with a
    default may lack its array. Data whose arrays nobody has named (a tensor, a tuple of tensors) go in their
    order, so that the argument of a program may be called `data` or `images`, and as the questions take them;
    an order that an argument called `x` or `y` contradicts is refused. Labels that a data set knows
    (`y`, without `labels=True`) go to a program that cannot do without them.

    Raises:
        DataError: an argument has no array, or no array an argument; lists both sides.
    """
    train = data.train if isinstance(data, DataSet) else data
    names = _chosen(train.names, train.held, train.naming, pair)
    if names == train.names:
        return data
    if isinstance(data, Split):
        return data.choose(names)
    parts: dict[str, Any] = {
        # a part may lack the labels that another one has
        part: split.choose([name for name in names if name in split.held])
        for part, split in data.parts().items()
    }
    return replace(data, **parts)


def withheld(split: Split, pair: Pair) -> str:
    """The name of labels that the programs would take and are not given; "" for none."""
    taken = taken_by(pair)
    hidden = "y" in split.held and "y" not in split.names
    return "y" if taken is not None and hidden and "y" in taken.names else ""


def taken_by(pair: Pair) -> Taken | None:
    """The arguments of both programs, the model's first; None where they cannot be known."""
    if pair.arguments is None:
        return None
    # one that takes *batch takes what the other does
    known = [each for each in (_of_one(pair.model), _of_one(pair.guide)) if each is not None]
    required = dict.fromkeys(name for each in known for name in each.required)
    by_keyword = dict.fromkeys(name for each in known for name in each.by_keyword)
    named = tuple(name for name in required if name in pair.arguments)
    return Taken(pair.arguments, named, tuple(by_keyword), any(each.any_keyword for each in known))


def in_order(arrays: Sequence[Any], pair: Pair) -> tuple[Any, ...]:
    """Those of some arrays without names that a pair's programs are called with, as `for_pair` chooses them.

    Raises:
        DataError: as `for_pair`.
    """
    names = names_in_order(arrays)
    given = dict(zip(names, arrays))
    return tuple(given[name] for name in _chosen(names, names, IN_ORDER, pair))


def _chosen(given: Sequence[str], held: Sequence[str], naming: Naming, pair: Pair) -> tuple[str, ...]:
    """The names of the arrays to send.

    Args:
        given: the arrays of a batch as it is.
        held: all that there are.
        naming: who has named them, and what has no place among them.
    """
    taken = taken_by(pair)
    if taken is None:
        if naming.by_user and len(given) > 1:
            raise DataError(
                f"the programs take *batch, whose places have no names, so that nobody knows where "
                f"{', '.join(given)} belong: give a tuple in the programs' order, write the arguments out, "
                "forward(self, x, y), or say them by an attribute, argument_names = ('x', 'y')"
            )
        return tuple(given)
    by_keyword = taken.by_keyword
    if taken.any_keyword and naming.by_user:
        by_keyword = tuple(name for name in held if name not in taken.names)
    if out_of_reach := [name for name in held if name in by_keyword]:
        raise DataError(
            f"the programs take {out_of_reach[0]!r} by keyword alone, and a batch is given by place: "
            f"write it as an argument, before a * or **kwargs"
        )
    fits = len(taken.required) <= len(given) <= len(taken.names)
    fits = fits and all(n == place for n, place in zip(given, taken.names) if n in taken.names)
    if naming.by_place and fits:
        return tuple(given)
    sent = [
        name
        for name in taken.names
        if name in given or (name in held and (name != "y" or name in taken.required))
    ]
    missing = [name for name in taken.required if name not in sent]
    if sent and not missing and not any(name.isdigit() for name in given):
        if naming.by_place and sent != list(given[: len(sent)]):
            theirs, ours = next(pair for pair in zip(sent, given, strict=False) if len(set(pair)) > 1)
            raise DataError(
                f"the programs take {_listed(taken)}, and a tuple goes to them by place, as in a question, "
                f"so that its {ours!r} would be their {theirs!r}: give the arrays by name, "
                f"{{{', '.join(f'{name!r}: ...' for name in sent)}}}"
            )
        _refuse_gap(sent, taken, pair)
        left = [name for name in given if name not in sent]
        if left and not naming.by_user and len(taken.names) > len(sent):
            free = next(name for name in taken.names if name not in sent)
            raise DataError(
                f"the programs take {_listed(taken)}, and {left[0]!r} of the data may be meant for {free!r}: "
                f"rename that argument to {left[0]!r}, or give the arrays by name"
            )
        return tuple(sent)
    if fits and (not naming.by_user or (len(given) == 1 and not sent)):
        return tuple(given)
    raise DataError(_both_sides(given, held, taken, missing) + _why_not(missing, naming))


def _refuse_gap(sent: Sequence[str], taken: Taken, pair: Pair) -> None:
    """A batch is given by place: what is left out must stand at the end of each program's arguments."""
    if len(sent) == len(taken.names):
        return
    for role, program in (("model", pair.model), ("guide", pair.guide)):
        own = _of_one(program)
        if own is not None and list(own.names[: len(sent)]) != list(sent[: len(own.names)]):
            absent = [name for name in taken.names if name not in sent]
            raise DataError(
                f"the programs take {_listed(taken)}, and the data has no {absent[0]!r}: a batch is given by "
                f"place, and the {role}, which takes ({', '.join(own.names)}), would get another there. "
                f"Write the arguments that may be left out last, or give {absent[0]!r} too"
            )


def _both_sides(given: Sequence[str], held: Sequence[str], taken: Taken, missing: Sequence[str]) -> str:
    by_name = [name for name in held if not name.isdigit()]
    data = f"the data has {', '.join(by_name)}"
    if without := len(held) - len(by_name):
        data += f" and {without} more without a name"
    lacks = f"; what is missing is {', '.join(missing)}" if missing else ""
    if "y" in held and "y" not in given and len(taken.required) == len(given) + 1:
        lacks += "; the data's y is given by place with labels=True"
    if not taken.names:
        return f"the programs take nothing, and {data}: write the data as arguments, def forward(self, x)"
    example = ", ".join(f"{name}=..." for name in (taken.required or taken.names))
    return (
        f"the programs take {_listed(taken)}, and {data}{lacks}. Arrays are given to the arguments of their "
        f"names: data.from_tensors({example}), or rename the arguments"
    )


def _why_not(missing: Sequence[str], naming: Naming) -> str:
    """Why the data has no arrays of these names, though it has something of them."""
    for name in missing:
        if name in naming.left_out:
            return f". What the data has as {name!r} is left out: {naming.left_out[name]}"
    if columns := [name for name in missing if name in naming.columns]:
        shown = ", ".join(f"{name!r}: frame[{name!r}]" for name in columns)
        return f". The columns of the table are one array, x; give them by name: {{{shown}}}"
    return ""


def _listed(taken: Taken) -> str:
    shown = [name if name in taken.required else f"{name}=..." for name in taken.names]
    return f"({', '.join(shown)})"


def _of_one(program: Any) -> Taken | None:
    parameters = parameters_of(program)
    if parameters is None:
        return None
    by_place = [each for each in parameters if each.kind in POSITIONAL]
    return Taken(
        tuple(each.name for each in by_place),
        tuple(each.name for each in by_place if each.default is inspect.Parameter.empty),
        tuple(each.name for each in parameters if each.kind is inspect.Parameter.KEYWORD_ONLY),
        any(each.kind is inspect.Parameter.VAR_KEYWORD for each in parameters),
    )
