"""A folder of images, decoded batch by batch."""

from __future__ import annotations

import os
import warnings
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image, ImageOps
from torch import Tensor

from ppl_vae.data.array_shapes import height_and_width
from ppl_vae.data.data_error import DataError
from ppl_vae.data.dataset import Loaded, Part
from ppl_vae.data.rows import stream

SUFFIXES = (".png", ".jpg", ".jpeg")
PARTS = {"train": ("train",), "valid": ("valid", "val", "validation"), "test": ("test",)}
THREADS = min(8, os.cpu_count() or 1)

Item = TypeVar("Item")
Result = TypeVar("Result")


@dataclass(frozen=True, eq=False)
class ImageFiles:
    """Images of one size as a source of rows: uint8 `(C, H, W)`, decoded when they are read.

    Args:
        paths: the files.
        size: height and width; an image of another size is scaled to cover it and cut at the centre.
        channels: 1 (grey) or 3 (colour; transparency is dropped).
    """

    paths: tuple[Path, ...]
    size: tuple[int, int]
    channels: int

    @property
    def shape(self) -> tuple[int, ...]:
        return (self.channels, *self.size)

    @property
    def dtype(self) -> torch.dtype:
        return torch.uint8

    def __len__(self) -> int:
        return len(self.paths)

    def read(self, positions: NDArray[np.int64]) -> Tensor:
        """The images at `positions`, uint8 `(B, C, H, W)`.

        Raises:
            DataError: a file that cannot be decoded.
        """
        images = in_threads(self._decode, [self.paths[position] for position in positions.tolist()])
        return torch.from_numpy(np.stack(images))

    def _decode(self, path: Path) -> NDArray[np.uint8]:
        try:
            with Image.open(path) as file:
                image = file.convert("L" if self.channels == 1 else "RGB")
        except Exception as error:  # PIL has no class of its own for a damaged file
            raise _unreadable(path, error) from error
        if (image.height, image.width) != self.size:
            image = ImageOps.fit(image, (self.size[1], self.size[0]), Image.Resampling.BICUBIC)
        pixels = np.asarray(image)
        return pixels[None] if self.channels == 1 else pixels.transpose(2, 0, 1)


def read_folder(folder: Path, image_size: int | tuple[int, int] | None) -> Loaded:
    """All png and jpg files under `folder`; the subfolders are the class labels, in sorted order.

    Subfolders `train` and `test` or `valid` are taken as the parts. The headers of all files are read
    here, so that a wrong file is found before training starts.

    Raises:
        DataError: no images, an unreadable one, or sizes that differ and no `image_size`.
    """
    roots = {}
    for part, synonyms in PARTS.items():
        for synonym in synonyms:
            if (folder / synonym).is_dir():
                roots[part] = folder / synonym
    if "train" not in roots or len(roots) == 1:
        roots = {"train": folder}
    listed = {part: _list(root) for part, root in roots.items()}
    paths = [path for files, _ in listed.values() for path in files]
    with warnings.catch_warnings():  # PIL warns of what it would take gigabytes to decode
        warnings.simplefilter("error", Image.DecompressionBombWarning)
        headers = in_threads(_header, paths)
    size = headers[0][0]
    if image_size is not None:
        size = height_and_width(image_size)
    else:
        for path, (found, _) in zip(paths, headers):
            if found != size:
                raise DataError(
                    f"{path} is {found[0]} x {found[1]} pixels and {paths[0]} is {size[0]} x "
                    f"{size[1]} (height x width); give image_size to bring all to one size"
                )
    channels = max(channels for _, channels in headers)
    classes = sorted({name for _, names in listed.values() for name in names if name})
    number = {name: label for label, name in enumerate(classes)}
    parts = {}
    for part, (files, names) in listed.items():
        y = torch.tensor([number[name] for name in names]) if all(names) else None
        parts[part] = Part(stream(ImageFiles(tuple(files), size, channels)), y)
    return Loaded(parts["train"], parts.get("valid"), parts.get("test"), divisor=255.0)


def in_threads(work: Callable[[Item], Result], items: Iterable[Item]) -> list[Result]:
    """`work` on every item in order, in threads: PIL lets go of the interpreter while it decodes."""
    if THREADS == 1:
        return [work(item) for item in items]
    with ThreadPoolExecutor(THREADS) as pool:
        return list(pool.map(work, items))


def _list(root: Path) -> tuple[list[Path], list[str]]:
    """The image files under `root`, sorted, and the first subfolder of each ('' at the top)."""
    try:
        files = sorted(
            path
            for path in root.rglob("*")
            if path.suffix.lower() in SUFFIXES and not path.name.startswith(".") and not path.is_dir()
        )
    except OSError as error:  # such as a folder that is removed meanwhile
        raise DataError(
            f"{root} cannot be listed ({error}); give a folder that holds images alone"
        ) from error
    if odd := [path for path in files if not path.is_file()]:  # to open a pipe would wait for ever
        raise DataError(f"{odd[0]} is no regular file but a pipe, a device or a broken link; remove it")
    if not files:
        raise DataError(f"{root} holds no images; put {', '.join(SUFFIXES)} files into it")
    relative = [path.relative_to(root).parts for path in files]
    return files, [parts[0] if len(parts) > 1 else "" for parts in relative]


def _header(path: Path) -> tuple[tuple[int, int], int]:
    """Height and width, and the number of channels, without decoding."""
    try:
        with Image.open(path) as image:
            size, mode = (image.height, image.width), image.mode
    except Exception as error:  # PIL has no class of its own for a damaged file
        raise _unreadable(path, error) from error
    if mode[0] in "IF":
        raise DataError(
            f"{path} has more than 8 bits a channel (mode {mode}); save it with 8 bits, or the "
            f"whole set as .npy"
        )
    return size, 1 if mode in ("1", "L", "LA", "La") else 3


def _unreadable(path: Path, error: Exception) -> DataError:
    if isinstance(error, Image.DecompressionBombError | Image.DecompressionBombWarning):
        return DataError(
            f"{path} would unpack to more than {Image.MAX_IMAGE_PIXELS:,} pixels, as a file made to fill the "
            f"memory does; remove it, or save it smaller"
        )
    return DataError(f"{path} cannot be read as an image ({error}); replace or remove it")
