"""`from_tensors`: a data set of a user's own arrays."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ppl_vae.data.convert import as_split
from ppl_vae.data.data_error import DataError
from ppl_vae.data.dataset import DataSet, Loaded, Part, assemble
from ppl_vae.data.division import Binarise, Division
from ppl_vae.data.naming import store_beside
from ppl_vae.data.split import Split, of_stored


def from_tensors(
    x: Any = None,
    y: Any = None,
    *,
    name: str = "tensors",
    binarise: Binarise = None,
    seed: int = 0,
    valid_fraction: float | None = None,
    test_fraction: float | None = None,
    labels: bool | int = False,
    missing: bool = False,
    **arrays: Any,
) -> DataSet:
    """A data set of your own arrays or Tensors, `(N, *event)` each, divided by the seed.

    For parts of your own: `DataSet(name, Split.from_tensors(x=a), Split.from_tensors(x=b), ...)`.

    Args:
        x: numpy array, Tensor or nested list; the event shape is kept. uint8 is divided by 255. Or what holds
            all arrays: a dictionary, a frame, whatever `as_split` takes.
        y: class labels, one whole number per row; or, beside other arrays or of another type, an array like
            these. Class labels go to a program that cannot do without its argument `y`, and with
            `labels=True` to every program that has one.
        missing: NaN is a value that nobody knows, for pairs that take it: `likelihoods.Mixed`,
            `models.MultimodalVAE`.
        arrays: further arrays by name, such as `mask=..., size=...`: each goes to the argument of its name,
            with its values as they are (`Split.from_tensors` says of what type).
        name: what the data set is called.
        binarise: "dynamic", "fixed" or None, as in `load`.
        seed: divides the rows, and draws fixed bits.
        valid_fraction: share of the rows for validation; 0.1 by default, 0 for none.
        test_fraction: share of the rows for the test; 0.2 by default.
        labels: batches are `(x, y)` instead of `(x,)`; a number keeps that many, as in `load`.

    Raises:
        DataError: data, labels, fractions or a seed that cannot be used; the message says why.

    >>> import torch
    >>> from ppl_vae import data
    >>> data.from_tensors(torch.rand(50, 3))
    DataSet('tensors', train=35, valid=5, test=10, shape=(3,))
    >>> data.from_tensors(x=torch.rand(50, 3), mask=torch.rand(50, 3) < 0.5).train
    Split(35, shape=(3,), device='cpu', batches of (x, mask))
    """
    options: dict[str, Any] = {
        "name": name,
        "binarise": binarise,
        "seed": seed,
        "labels": labels,
        "missing": missing,
    }
    options |= {"valid_fraction": valid_fraction, "test_fraction": test_fraction}
    if mistaken := [option for option, value in options.items() if hasattr(value, "__array__")]:
        raise DataError(
            f"{mistaken[0]} is an option of from_tensors: an array of that name goes in a dictionary, "
            f"data.from_tensors({{{mistaken[0]!r}: ...}})"
        )
    if x is not None and y is None and not arrays and not isinstance(x, Split | DataSet):
        whole = as_split(x, missing)
    elif isinstance(x, Mapping):
        whole = Split.from_tensors({**x, **({} if y is None else {"y": y}), **arrays}, missing=missing)
    elif arrays or (x is None and y is not None):
        both = {name: array for name, array in (("x", x), ("y", y)) if array is not None}
        whole = Split.from_tensors({**both, **arrays}, missing=missing)
    elif labels is not False or y is None:
        whole = Split.from_tensor(x, y, labels=labels is not False, missing=missing)
    else:
        whole = of_stored(store_beside(x, y, missing), labels=False, missing=missing)
    given = labels if labels is not False else whole.with_labels
    return divided(whole, name, Division(seed, valid_fraction, test_fraction, given, binarise))


def divided(whole: Split, name: str, division: Division) -> DataSet:
    """A data set of the rows of one split."""
    part = Part(whole.rows, whole.y, whole.factors, whole.others)
    loaded = Loaded(part, divisor=whole.divisor, missing=whole.missing, naming=whole.naming)
    return assemble(name, loaded, division)
