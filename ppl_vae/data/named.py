"""The data sets that are known by name."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from ppl_vae.data import markov, patches, sequences, sprites, synthetic
from ppl_vae.data.array_shapes import resize
from ppl_vae.data.data_error import DataError, MissingDataError
from ppl_vae.data.dataset import Loaded
from ppl_vae.data.files import read_npz, tensor_part
from ppl_vae.data.image_folder import in_threads

OMNIGLOT_SIZE = (28, 28)
Size = tuple[int, int] | None


class Named(NamedTuple):
    """A data set known by name.

    Args:
        read: (root, size) -> what was found.
        summary: one line for lists.
    """

    read: Callable[[Path, Size], Loaded]
    summary: str


class Drawn(NamedTuple):
    """A data set known by name that is drawn by the seed, as many data as are wanted.

    Args:
        draw: (num_data, random numbers, size) -> what was drawn.
        summary: one line for lists.
        num_data: how many there are if nobody says.
    """

    draw: Callable[[int, np.random.Generator, Size], Loaded]
    summary: str
    num_data: int


def _digits(root: Path, size: Size) -> Loaded:
    from sklearn.datasets import load_digits  # bundled: needs no file under root

    pixels, y = load_digits(return_X_y=True)
    images = torch.from_numpy(pixels.astype(np.uint8)).reshape(-1, 1, 8, 8)
    part = tensor_part(_sized(images, size), y, "digits")
    return Loaded(part, divisor=16.0, binarise="dynamic")


def _mnist_like(class_name: str) -> Callable[[Path, Size], Loaded]:
    def read(root: Path, size: Size) -> Loaded:
        where = root / class_name / "raw"
        parts = []
        for train in (True, False):
            found = fetch(class_name, root, where, train=train)
            parts.append(tensor_part(_sized(found.data[:, None], size), found.targets, class_name))
        return Loaded(parts[0], test=parts[1], divisor=255.0, binarise="dynamic", last_rows_valid=10_000)

    return read


def _cifar10(root: Path, size: Size) -> Loaded:
    parts = []
    for train in (True, False):
        found = fetch("CIFAR10", root, root / "cifar-10-batches-py", train=train)
        images = torch.from_numpy(found.data).permute(0, 3, 1, 2).contiguous()
        parts.append(tensor_part(_sized(images, size), found.targets, "CIFAR10"))
    return Loaded(parts[0], test=parts[1], divisor=255.0)


def _svhn(root: Path, size: Size) -> Loaded:
    parts = []
    for part in ("train", "test"):
        found = fetch("SVHN", root / "SVHN", root / "SVHN" / f"{part}_32x32.mat", split=part)
        images = torch.from_numpy(np.ascontiguousarray(found.data))
        parts.append(tensor_part(_sized(images, size), found.labels, "SVHN"))
    return Loaded(parts[0], test=parts[1], divisor=255.0)


def _omniglot(root: Path, size: Size) -> Loaded:
    height, width = size or OMNIGLOT_SIZE
    parts, first_class = [], 0
    for background in (True, False):
        found = fetch("Omniglot", root, root / "omniglot-py", background=background)

        def decode(index: int, found: Any = found) -> tuple[np.ndarray, int]:
            image, label = found[index]
            # ink is black in the files and 1 in the literature
            return 255 - np.asarray(image.convert("L").resize((width, height), 2)), label

        decoded = in_threads(decode, range(len(found)))
        images = torch.from_numpy(np.stack([image for image, _ in decoded]))[:, None]
        y = torch.tensor([label for _, label in decoded]) + first_class
        parts.append(tensor_part(images, y, "Omniglot"))
        first_class = int(y.max()) + 1  # the test alphabets are other alphabets
    return Loaded(parts[0], test=parts[1], divisor=255.0, binarise="dynamic")


def _static_mnist(root: Path, size: Size) -> Loaded:
    if size is not None:
        raise DataError("static_mnist holds bits and cannot be resized; leave image_size out")
    path = root / "static_mnist.npz"
    if not path.is_file():
        raise MissingDataError(
            f"static_mnist is expected at {path}: uint8 arrays in {{0, 1}} named train "
            f"(50000, 28, 28), valid and test (10000, 28, 28 each); it is not downloaded. Set "
            f"PPL_VAE_DATA or root to its folder, or use data.load('mnist', binarise='fixed')"
        )
    return read_npz(path)


NAMED: dict[str, Named | Drawn] = {
    "digits": Named(_digits, "1,797 grey 8 x 8 digits, bundled"),
    "mnist": Named(_mnist_like("MNIST"), "70,000 grey 28 x 28 digits"),
    "static_mnist": Named(_static_mnist, "MNIST in the fixed binarisation of the literature"),
    "fashion_mnist": Named(_mnist_like("FashionMNIST"), "70,000 grey 28 x 28 clothes"),
    "kmnist": Named(_mnist_like("KMNIST"), "70,000 grey 28 x 28 cursive Japanese characters"),
    "omniglot": Named(_omniglot, "32,460 grey characters of 50 alphabets, at 28 x 28"),
    "cifar10": Named(_cifar10, "60,000 colour 32 x 32 photographs in 10 classes"),
    "svhn": Named(_svhn, "99,289 colour 32 x 32 house numbers"),
    "patches": Named(
        lambda root, size: patches.read(size), "8,480 colour 8 x 8 patches of two photographs, bundled"
    ),
    "chorales": Named(
        sequences.chorales, "382 chorales of Bach: which of 88 keys sound in each quarter note"
    ),
    "names": Named(sequences.names, "29,494 English first names, letter by letter"),
    "sprites": Drawn(
        sprites.draw, "any number of 32 x 32 squares, ellipses and hearts, five factors known", 10_000
    ),
    "linear_gaussian": Drawn(
        synthetic.linear_gaussian, "any number of vectors (10,) from a normal latent (3,), known", 5_000
    ),
    "pinwheel": Drawn(synthetic.pinwheel, "any number of points in the plane, in five curved arms", 5_000),
    "counts": Drawn(
        synthetic.counts, "any number of count vectors (50,) from a latent (2,) in four groups, known", 5_000
    ),
    "markov_strings": Drawn(
        markov.markov_strings, "any number of strings (12,) from a hidden chain of four states, known", 5_000
    ),
}


def fetch(class_name: str, root: Path, where: Path, **options: Any) -> Any:
    """A torchvision data set from the files under `root`; where there are none, downloaded.

    Raises:
        MissingDataError: no files, and the download failed.
        DataError: files that cannot be read.
    """
    import torchvision.datasets  # not at the top: it is slow to import

    kind = getattr(torchvision.datasets, class_name)
    # Any error: torchvision has no class of its own for a file that is damaged or a host that is away.
    try:
        return kind(str(root), download=False, **options)
    except Exception as error:
        if not (isinstance(error, RuntimeError) and "not found" in str(error)):
            raise DataError(
                f"{class_name}: the files at {where} cannot be read ({error}); remove them, and "
                f"they are downloaded anew"
            ) from error
    try:
        return kind(str(root), download=True, **options)
    except Exception as error:
        raise MissingDataError(
            f"{class_name}: no readable files at {where}, and the download failed ({error}). Copy "
            f"them there, set PPL_VAE_DATA or root to the folder that holds them, or try "
            f"data.load('digits'), which needs no download"
        ) from error


def _sized(images: Tensor, size: Size) -> Tensor:
    return images if size is None else resize(images, size)
