"""`patches`: the two photographs that come with scikit-learn, cut into squares."""

from __future__ import annotations

import numpy as np
import torch

from ppl_vae.data.data_error import DataError
from ppl_vae.data.dataset import Loaded, Part
from ppl_vae.data.rows import ResidentRows

SIDE = 8


def read(size: tuple[int, int] | None) -> Loaded:
    """Colour patches `(3, H, W)` that do not overlap, so that no pixel is in two parts.

    The labels are the photographs: 0 a temple, 1 a flower. At 8 x 8 there are 8,480 patches.
    """
    from sklearn.datasets import load_sample_images  # not at the top: it is slow to import

    height, width = size or (SIDE, SIDE)
    pieces, labels = [], []
    for label, photograph in enumerate(load_sample_images().images):
        # a read-only array of pixels (427, 640, 3)
        image = torch.from_numpy(np.array(photograph)).permute(2, 0, 1)
        if height > image.shape[1] or width > image.shape[2]:
            raise DataError(
                f"image_size={(height, width)}: the photographs have {tuple(image.shape[1:])} pixels; "
                f"give smaller patches"
            )
        rows = image.unfold(1, height, height).unfold(2, width, width)  # (3, down, right, H, W)
        piece = rows.permute(1, 2, 0, 3, 4).flatten(0, 1).contiguous()
        pieces.append(piece)
        labels.append(torch.full((len(piece),), label))
    part = Part(ResidentRows(torch.cat(pieces)), torch.cat(labels))
    return Loaded(part, divisor=255.0)
