"""Sequences by name: Bach's chorales, and English first names."""

from __future__ import annotations

import json
import os
import urllib.request
from pathlib import Path

import numpy as np
import torch

from ppl_vae.data.alphabet import LETTERS
from ppl_vae.data.data_error import DataError, MissingDataError
from ppl_vae.data.dataset import Loaded, Part
from ppl_vae.data.naming import Naming
from ppl_vae.data.rows import ResidentRows

LOWEST, KEYS = 21, 88  # of a piano, in MIDI's count
FOLDER = "sequences"
CHORALES = "https://raw.githubusercontent.com/czhuang/JSB-Chorales-dataset/master/jsb-chorales-quarter.json"
NAMES = "https://raw.githubusercontent.com/karpathy/makemore/master/names.txt"
_SECONDS = 30.0  # that a host may stay silent


def chorales(root: Path, size: tuple[int, int] | None) -> Loaded:
    """x, (N, T, 88) bits: which keys sound in each quarter note, padded with silence; and `length`, (N,).

    229, 76 and 77 chorales in the parts of Boulanger-Lewandowski, Bengio and Vincent, arXiv:1206.6392.
    """
    _no_size("chorales", size)
    path = _file(root, "jsb_chorales_quarter.json", CHORALES)
    try:
        pieces = json.loads(path.read_text(encoding="utf-8"))
        parts = [pieces[part] for part in ("train", "valid", "test")]
        longest = max(len(piece) for part in parts for piece in part)
        train, valid, test = (_rolls(part, longest) for part in parts)
    except (ValueError, KeyError, TypeError, IndexError) as error:
        raise DataError(
            f"{path} cannot be read as chorales ({type(error).__name__}: {error}): it holds train, valid and "
            f"test, each a list of pieces of steps of pitches from {LOWEST} to {LOWEST + KEYS - 1}; "
            "remove it, and it is downloaded anew"
        ) from error
    naming = Naming("x", ("x", "length"), by_user=True)
    return Loaded(train, valid, test, naming=naming)


def _rolls(pieces: list[list[list[int]]], longest: int) -> Part:
    rolls = np.zeros((len(pieces), longest, KEYS), np.uint8)
    for number, piece in enumerate(pieces):
        for step, pitches in enumerate(piece):
            for pitch in pitches:
                if not LOWEST <= pitch < LOWEST + KEYS:
                    raise ValueError(f"pitch {pitch} in step {step} of piece {number}")
                rolls[number, step, pitch - LOWEST] = 1
    length = torch.tensor([len(piece) for piece in pieces])
    return Part(ResidentRows(torch.from_numpy(rolls)), None, others={"length": ResidentRows(length)})


def names(root: Path, size: tuple[int, int] | None) -> Loaded:
    """x, (N, 16): the letters of a name as 1 to 26, 0 from its end on; `data.LETTERS` reads and writes them.

    Each name once, though the file has some twice: no name of the test part has been trained on.
    """
    _no_size("names", size)
    path = _file(root, "names.txt", NAMES)
    try:
        known = dict.fromkeys(path.read_text(encoding="utf-8").split())
        x = LETTERS.encode(list(known))
    except (ValueError, OSError) as error:
        raise DataError(
            f"{path} cannot be read as names ({error}): it holds one name of the letters a to z a line; "
            "remove it, and it is downloaded anew"
        ) from error
    if not known:
        raise DataError(f"{path} is empty; remove it, and it is downloaded anew")
    return Loaded(Part(ResidentRows(x.float()), None), naming=Naming(alphabet=LETTERS))


def _file(root: Path, name: str, address: str) -> Path:
    """A file under `root`; where there is none, downloaded."""
    path = root / FOLDER / name
    if path.is_file():
        return path
    try:
        with urllib.request.urlopen(address, timeout=_SECONDS) as answer:
            content = answer.read()
        path.parent.mkdir(parents=True, exist_ok=True)
        temporary = path.with_name(f".{name}.tmp-{os.getpid()}")
        temporary.write_bytes(content)
        os.replace(temporary, path)  # whoever looks finds no file or a whole one
    except OSError as error:
        raise MissingDataError(
            f"no file {path}, and the download from {address} failed ({error}). Copy it there, or set "
            "PPL_VAE_DATA or root to the folder that holds sequences/"
        ) from error
    return path


def _no_size(name: str, size: tuple[int, int] | None) -> None:
    if size is not None:
        raise DataError(f"{name} holds sequences, which have no image_size; leave it out")
