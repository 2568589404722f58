"""Advice in the words of the command line, where a message of the library gives it in Python's."""

from __future__ import annotations

import re
from collections.abc import Collection

_GROUPS = ("load", "pair", "fit", "evaluate", "report", "at_point")
_VALUE = r"\.\.\.|'[^']*'|\"[^\"]*\"|\((?:[^()]*)\)|\[[^\[\]]*\]|[-+\w./]*[\w]"
_ARGUMENT = re.compile(rf"(?<![\w.\-=])([a-z]\w*)=({_VALUE})")
_CALL = re.compile(r"(?:pv\.)?\bfit\(\.\.\., ([^()]*)\)|data\.load\('([^']*)'(?:, ([^()]*))?\)")
_PLAIN = {"True": "", "False": "false", "None": "null", "...": ""}


def in_words(text: str, options: Collection[str]) -> str:
    """A message with its `name=value` written as the option of that name.

    Args:
        text: the message.
        options: the command's, such as `--resume` and `--load.binarise`.

    >>> in_words("pass trust=('my_file',) if you trust its author", ["--trust"])
    'give --trust my_file if you trust its author'
    >>> in_words("continue it with resume=True", ["--resume"])
    'continue it with --resume'
    >>> in_words("or use data.load('mnist', binarise='fixed')", ["--data", "--load.binarise"])
    'or use --data mnist --load.binarise fixed'
    """
    text = re.sub(r"(; )?or build it yourself and pass pair=\.\.\.", "", text)
    text = re.sub(r"\bpass (?=trust=)", "give ", text)
    text = _CALL.sub(lambda match: _call(match, options), text)
    return _ARGUMENT.sub(lambda match: _option(match, options), text)


def _call(match: re.Match[str], options: Collection[str]) -> str:
    training, name, arguments = match.groups()
    if training is None and "--data" not in options:
        return match[0]
    given = [part for part in re.split(r",\s*", training or arguments or "") if part and part != "..."]
    return " ".join([*([f"--data {name}"] if name else []), *given])


def _option(match: re.Match[str], options: Collection[str]) -> str:
    name, value = match.groups()
    found = [
        option for option in (f"--{name}", *(f"--{group}.{name}" for group in _GROUPS)) if option in options
    ]
    if not found:
        return match[0]
    value = _PLAIN.get(value, value)
    if value.startswith("("):
        value = " ".join(part.strip(" '\"") for part in value.strip("()").split(",") if part.strip())
    return f"{found[0]} {value.strip(chr(39) + chr(34))}".rstrip()
