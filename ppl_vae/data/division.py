"""`Division`: how the rows of a data set are divided into parts, and what a batch of them holds."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from ppl_vae.core.checks import check_seed
from ppl_vae.data.data_error import DataError

Binarise = Literal["auto", "dynamic", "fixed"] | None


@dataclass(frozen=True)
class Division:
    """The options that every way to a data set has, checked once and handed on as one.

    Args:
        seed: divides the rows, chooses the labels that are kept, and draws fixed bits.
        valid_fraction: share for validation; 0.1 by default, 0 for none.
        test_fraction: share for the test; 0.2 by default.
        labels: whether batches are `(x, y)`; a number keeps that many labels of the training part.
        binarise: "dynamic", "fixed", None, or "auto" for what the data says.

    Raises:
        DataError: for an option that is none; names it and its value.

    >>> Division(seed=1, test_fraction=0.5).valid_fraction is None
    True
    """

    seed: int = 0
    valid_fraction: float | None = None
    test_fraction: float | None = None
    labels: bool | int = False
    binarise: Binarise = None

    def __post_init__(self) -> None:
        check_seed("seed", self.seed, DataError)
        if self.binarise not in ("auto", "dynamic", "fixed", None):
            raise DataError(f"binarise={self.binarise!r}: give 'dynamic', 'fixed', None or 'auto'")
        if not isinstance(self.labels, int) or (self.labels < 1 and self.labels is not False):
            raise DataError(
                f"labels={self.labels!r}: give True or False, or how many labels of the training part to keep"
            )
        for which, share in (("valid", self.valid_fraction), ("test", self.test_fraction)):
            if share is not None and (not isinstance(share, int | float) or isinstance(share, bool)):
                raise DataError(f"{which}_fraction={share!r}: give a share between 0 and 1")
            if share is not None and not 0 < share < 1 and (share != 0 or which == "test"):
                none = ", or 0 for none" if which == "valid" else ""
                raise DataError(f"{which}_fraction={share}: give a share between 0 and 1{none}")

    @property
    def num_labels(self) -> int | None:
        """How many labels of the training part are kept; None for all of them, or none."""
        return None if isinstance(self.labels, bool) else self.labels
