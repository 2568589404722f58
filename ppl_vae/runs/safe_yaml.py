"""YAML from strangers: plain values alone, and refused before it can take time or memory."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import yaml

from ppl_vae.runs.seals import problem_of

MAX_BYTES = 2**20
MAX_DIGITS = 40
MAX_DEPTH = 100
MAX_VALUES = 100_000

_LOADER: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)

_WHOLE = re.compile(r"[-+]?(0x[0-9a-fA-F_]+|0b[01_]+|[0-9][0-9_]*)")
# what YAML 1.1 reads as an octal number and in base 60
_OCTAL = re.compile(r"[-+]?0[0-7_]+")
_BASE_60 = re.compile(r"[-+]?[0-9][0-9_]*(:[0-5]?[0-9])+(\.[0-9_]*)?")


class YamlError(ValueError):
    """A text that is no YAML of plain values, or that would take more time and memory than a file of options
    may.
    """


class NotYaml(YamlError):
    """A text that no reader of YAML takes."""


def read_yaml(path: str | Path) -> Any:
    """The values of a YAML file.

    Raises:
        YamlError: as `checked`, and for a file that is not UTF-8; says what is wrong with the file.
        OSError: when it cannot be read.
    """
    return load_yaml(read_text(path))


def read_text(path: str | Path) -> str:
    """The text of a file of options, at most `MAX_BYTES` of it.

    Raises:
        YamlError: for a larger file, one that is not UTF-8, or that does not have the checksum that it names.
        OSError: when it cannot be read.
    """
    with open(path, "rb") as file:
        content = file.read(MAX_BYTES + 1)
    if len(content) > MAX_BYTES:
        raise YamlError(f"it is larger than {MAX_BYTES:,} bytes: no file of options is")
    try:
        text = content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise YamlError(
            f"it is not UTF-8 text ({error.reason} in byte {error.start}): save it as UTF-8"
        ) from error
    if problem := problem_of(text):
        raise YamlError(problem)
    return text


def load_yaml(text: str) -> Any:
    """The plain values of a YAML text.

    Raises:
        YamlError: as `checked`, and for tags that are no plain values'.

    >>> load_yaml("a: [1, 2]")
    {'a': [1, 2]}
    """
    checked(text)
    try:
        return yaml.load(text, Loader=_LOADER)
    except Exception as error:  # `!!bool x` is a KeyError, 2001-99-99 a ValueError, `!!int ''` an IndexError
        raise YamlError(f"it is no YAML of plain values: {error}") from error


def checked(text: str) -> str:
    """The text itself, once it is known that its values are few, however often its anchors are used.

    An alias counts as all that stands under its anchor, a merge key as all that it merges: what is
    counted is what a walk over the values would meet. The text is read as events, which take no memory.

    Raises:
        YamlError: for a text that is not YAML, more than `MAX_VALUES` values, nesting deeper than
            `MAX_DEPTH`, an anchor that stands inside of what it names, a key that stands twice, or a number
            that is another to YAML than to people, as 010 and 1:30 are.
    """
    named: dict[str, tuple[int, int]] = {}  # by anchor: how many values, how deep
    opened = [_Open(None)]
    try:
        for event in yaml.parse(text, Loader=_LOADER):
            if isinstance(event, yaml.CollectionStartEvent):
                opened.append(_Open(event.anchor, isinstance(event, yaml.MappingStartEvent)))
            elif isinstance(event, yaml.CollectionEndEvent):
                closed = opened.pop()
                opened[-1].take(closed.size, closed.depth)
                if closed.anchor is not None:
                    named[closed.anchor] = closed.size, closed.depth
            elif isinstance(event, yaml.ScalarEvent):
                _check_number(event)
                opened[-1].take(1, 0, event.value)
                if event.anchor is not None:
                    named[event.anchor] = 1, 0
            elif isinstance(event, yaml.AliasEvent):
                if event.anchor in [each.anchor for each in opened]:
                    raise YamlError(
                        f"what the anchor &{event.anchor} names contains itself: remove the alias"
                    )
                opened[-1].take(*named.get(event.anchor or "", (1, 0)))
            if len(opened) + opened[-1].depth > MAX_DEPTH:
                raise YamlError(f"it is nested deeper than {MAX_DEPTH} levels: no options are")
            if opened[-1].size > MAX_VALUES:
                raise YamlError(
                    f"it comes to more than {MAX_VALUES:,} values, anchors followed: no options do"
                )
    except (yaml.YAMLError, ValueError) as error:
        if isinstance(error, YamlError):
            raise
        raise NotYaml(f"it is no YAML: {error}") from error
    return text


def _check_number(event: Any) -> None:
    """Refuse a number that YAML reads otherwise than people do."""
    text = event.value
    if not event.implicit[0]:
        return  # in quotes, or with a tag
    if len(text) > MAX_DIGITS and _WHOLE.fullmatch(text):  # which Python would not even print
        raise YamlError(
            f"{text:.20}... is a whole number of {len(text):,} digits, and no option is: put text in quotes"
        )
    if _BASE_60.fullmatch(text):
        raise YamlError(
            f"YAML reads {text} in base 60, as it does times of day: write the number out, or put text in "
            "quotes"
        )
    if _OCTAL.fullmatch(text) and (digits := text.replace("_", "")) and int(digits, 8) != int(digits):
        raise YamlError(
            f"YAML reads {text} as {int(digits, 8)}, in base 8: write {int(digits)} or {int(digits, 8)}, or "
            f"put text in quotes"
        )


class _Open:
    """A collection that is being read: how many values it has so far, how deep they go, and its keys."""

    def __init__(self, anchor: str | None, mapping: bool = False) -> None:
        self.anchor, self.size, self.depth = anchor, 1, 1
        self.mapping, self.at_key, self.keys = mapping, True, {"<<"}

    def take(self, size: int, depth: int, text: str | None = None) -> None:
        self.size += size
        self.depth = max(self.depth, depth + 1)
        if self.mapping and self.at_key and text is not None:
            if text in self.keys and text != "<<":
                raise YamlError(f"{text!r:.80} stands in it twice: remove one of the two")
            self.keys.add(text)
        self.at_key = not self.at_key
