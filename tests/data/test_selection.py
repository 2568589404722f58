"""Which arrays a pair's programs are given: by name, by place where nobody has named them, or one error."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from ppl_vae import Pair
from ppl_vae.data import DataError, DataSet, Split, as_split, few_labels, for_pair, from_tensors
from ppl_vae.data.selection import in_order

X = torch.rand(12, 3, generator=torch.Generator().manual_seed(0))
Y = torch.arange(12) % 3
REAL = X[:, 0]
MASK = X > 0.5
NAMED = {"mask": MASK, "y": REAL, "x": X, "size": Y}


class Program(nn.Module):
    def __init__(self, forward):
        super().__init__()
        self.forward = forward


def pair_of(model, guide=None):
    return Pair(Program(model), Program(guide or model))


GIVEN = {
    "a tensor": (X, lambda x: None, ["x"]),
    "a tensor for data": (X, lambda data: None, ["x"]),
    "a tensor for one of two": (X, lambda data, size=None: None, ["x"]),
    "x and y": ((X, Y), lambda x, y: None, ["x", "y"]),
    "labels that are not taken": ((X, Y), lambda x: None, ["x"]),
    "by place": ((X, Y), lambda images, classes: None, ["x", "y"]),
    "a size by place": ((X, Y), lambda x, size: None, ["x", "y"]),
    "a covariate by place": ((X, REAL), lambda x, y: None, ["x", "1"]),
    "three by place": ((X, REAL, MASK), lambda a, b, c: None, ["x", "1", "2"]),
    "an optional size by place": ((X, Y), lambda x, size=None: None, ["x", "y"]),
    "any number": ((X, REAL, MASK), lambda *batch: None, ["x", "1", "2"]),
    "names": (NAMED, lambda x, y, mask: None, ["x", "y", "mask"]),
    "names in another order": (NAMED, lambda mask, y, x: None, ["mask", "y", "x"]),
    "a name that is not taken": (NAMED, lambda x, size: None, ["x", "size"]),
    "an optional name": (NAMED, lambda x, size=None: None, ["x", "size"]),
    "an optional name that lacks": (NAMED, lambda x, batch=None: None, ["x"]),
    "one array of another name": ({"image": X}, lambda data: None, ["image"]),
    "labels for one who needs them": (from_tensors(X, Y), lambda x, y: None, ["x", "y"]),
    "labels for one who does not": (from_tensors(X, Y), lambda x, y=None: None, ["x"]),
    "labels that are given": (from_tensors(X, Y, labels=True), lambda x, y=None: None, ["x", "y"]),
    "labels in front": (from_tensors(X, Y), lambda y, x: None, ["y", "x"]),
    "a real y for one who needs it": (from_tensors(X, REAL), lambda x, y: None, ["x", "y"]),
    "few labels": (few_labels(Split.from_tensor(X, Y), 2), lambda x, y=None: None, ["x", "y"]),
}


@pytest.mark.parametrize("kind", GIVEN)
def test_what_a_program_is_given(kind):
    given, model, names = GIVEN[kind]
    whole = given if isinstance(given, DataSet) else as_split(given)
    chosen = for_pair(whole, pair_of(model))
    splits = list(chosen.parts().values()) if isinstance(chosen, DataSet) else [chosen]
    for split in splits:
        assert list(split.names) == names
        assert len(split.batch(torch.tensor([0, 0]))) == len(names)
    if isinstance(given, tuple):
        assert [id(each) for each in in_order(given, pair_of(model))] == [
            id(each) for each in given[: len(names)]
        ]


def test_the_guide_takes_more_than_the_model():
    pair = pair_of(lambda x: None, lambda x, size: None)
    assert for_pair(Split.from_tensors(NAMED), pair).names == ("x", "size")
    assert for_pair(Split.from_tensors(NAMED), pair_of(lambda x, y: None, lambda *batch: None)).names == (
        "x",
        "y",
    )


REFUSED = {
    "an array that lacks": (NAMED, lambda x, steps: None, r"\(x, steps\), and the data has x, mask, y, size; "
                            r"what is missing is steps.*data.from_tensors\(x=..., steps=...\)"),
    "no name fits": ({"a": X, "b": Y}, lambda u, v: None, "the data has a, b; what is missing is u, v"),
    "too many without names": ((X, REAL), lambda x: None, "the data has x and 1 more without a name"),
    "too few": (X, lambda images, classes: None, "what is missing is images, classes"),
    "labels by place": (from_tensors(X, Y), lambda images, classes: None, "by place with labels=True"),
    "another order": ((X, MASK), lambda mask, x: None, "what is missing is mask"),
    "labels where the data belong": ((X, Y), lambda y, x: None,
                                     r"by place.*its 'x' would be their 'y': .*\{'y': ..., 'x'"),
    "labels for one who has no data": ((X, Y), lambda y: None, "its 'x' would be their 'y'"),
    "a gap": ({"x": X, "mask": MASK}, lambda x, y=None, mask=None: None,
              "the data has no 'y': a batch is given by place, and the model, which takes"),
    "by keyword alone": (NAMED, lambda x, *, mask=None: None, "take 'mask' by keyword alone"),
    "labels of another name": (from_tensors(X, Y, labels=True), lambda x, classes=None: None,
                               "'y' of the data may be meant for 'classes'"),
    "a program without data": (X, lambda: None, "the programs take nothing"),
}  # fmt: skip


@pytest.mark.parametrize("kind", REFUSED)
def test_what_does_not_fit_is_one_error_with_both_sides(kind):
    given, model, message = REFUSED[kind]
    whole = given if isinstance(given, DataSet) else as_split(given)
    with pytest.raises(DataError, match=message):
        for_pair(whole, pair_of(model))


def test_a_gap_that_only_the_guide_has():
    data = Split.from_tensors(x=X, mask=MASK)
    with pytest.raises(DataError, match="and the guide, which takes"):
        for_pair(data, pair_of(lambda x, mask, y=None: None, lambda mask, x: None))
