"""Data sets: `load` by name or path, in three parts, binarised on the device.

::

    digits = data.load("digits")                # train, valid, test
    for (x,) in digits.train.batches(128): ...  # float32 (B, C, H, W) in [0, 1]

`from_tensors` divides an array of yours; `as_split` lets a function take an array or a `Split`; `few_labels`
hides most of a split's labels.
"""

from ppl_vae.data.alphabet import LETTERS, Alphabet
from ppl_vae.data.convert import as_split
from ppl_vae.data.data_error import DataError, MissingDataError
from ppl_vae.data.dataset import DataSet
from ppl_vae.data.given import from_tensors
from ppl_vae.data.loading import data_root, load
from ppl_vae.data.markov import markov_truth
from ppl_vae.data.missing_labels import few_labels
from ppl_vae.data.named import NAMED
from ppl_vae.data.schema import Schema
from ppl_vae.data.selection import for_pair
from ppl_vae.data.split import Split
from ppl_vae.data.tables import table

NAMES = tuple(NAMED)
"""The data sets that `load` knows by name."""

__all__ = [
    "LETTERS",
    "NAMES",
    "Alphabet",
    "DataError",
    "DataSet",
    "MissingDataError",
    "Schema",
    "Split",
    "as_split",
    "data_root",
    "few_labels",
    "for_pair",
    "from_tensors",
    "load",
    "markov_truth",
    "table",
]
