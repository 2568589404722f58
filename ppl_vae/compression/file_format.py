"""The file: a header in JSON, what stands beside the code, the code's words, and a checksum of all."""

from __future__ import annotations

import hashlib
import json
import lzma
import struct
import zlib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from ppl_vae.compression.errors import CompressionError

MAGIC = b"ppl_vae compressed data 2\n"
_SIZES = struct.Struct("<QQ")
_CHECKSUM = 32


@dataclass(frozen=True)
class Content:
    """What a file holds.

    Attributes:
        header: plain values.
        side: bytes by name, which are compressed as they are.
        words: uint32, the stack of bits.
    """

    header: Mapping[str, Any]
    side: Mapping[str, bytes]
    words: np.ndarray


def to_bytes(content: Content) -> bytes:
    """The whole file."""
    sizes = {name: len(each) for name, each in sorted(content.side.items())}
    header = zlib.compress(json.dumps({**content.header, "side": sizes}, sort_keys=True).encode(), 9)
    side = _side(content)
    body = MAGIC + _SIZES.pack(len(header), len(side)) + header + side + content.words.astype("<u4").tobytes()
    return body + hashlib.sha256(body).digest()


def of_bytes(raw: bytes, where: str) -> Content:
    """The way back.

    Args:
        raw: the file.
        where: its name, for errors.

    Raises:
        CompressionError: for another file, and for one that is damaged or cut short.
    """
    if not raw.startswith(MAGIC):
        what = "is empty" if not raw else "is no file that pv.compress of this version wrote"
        raise CompressionError(f"{where} {what}: give the path of one")
    body, checksum = raw[:-_CHECKSUM], raw[-_CHECKSUM:]
    if len(raw) < len(MAGIC) + _SIZES.size + _CHECKSUM or hashlib.sha256(body).digest() != checksum:
        raise CompressionError(f"{where} is damaged or cut short: its checksum is wrong; take another copy")
    at = len(MAGIC)
    num_header, num_side = _SIZES.unpack_from(body, at)
    at += _SIZES.size
    header = json.loads(zlib.decompress(body[at : at + num_header]))
    at += num_header
    beside = lzma.decompress(body[at : at + num_side]) if num_side else b""
    words = np.frombuffer(body[at + num_side :], dtype="<u4").astype(np.uint32)
    side, start = {}, 0
    for name, size in header.pop("side").items():
        side[name] = beside[start : start + size]
        start += size
    return Content(header, side, words)


def size_of_side(content: Content) -> int:
    """The bytes of what stands beside the code."""
    return len(_side(content))


def _side(content: Content) -> bytes:
    parts = [each for _, each in sorted(content.side.items())]
    return lzma.compress(b"".join(parts), preset=9) if parts else b""
