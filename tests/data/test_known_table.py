"""Rows of another table, for a pair that knows its own: brought to its columns and units, never as they
are.
"""

from __future__ import annotations

import pytest
import torch

import ppl_vae as pv
from ppl_vae import data, guides, likelihoods, models, nets
from ppl_vae.data import DataError
from ppl_vae.data.known_table import of_table


def columns(rows, loc, kinds="xyz", classes="uvw"):
    generator = torch.Generator().manual_seed(rows)
    return {
        "a": (loc + torch.randn(rows, generator=generator)).tolist(),
        "k": [kinds[row % len(kinds)] for row in range(rows)],
        "class": [classes[(row // 2) % len(classes)] for row in range(rows)],
    }


def trained():
    table = data.table(columns(60, 50.0), columns={"class": "label"})
    likelihood = likelihoods.Mixed.of(table.schema)
    decoder = nets.MLPDecoder(2, likelihood.raw_shape(table.shape), (4,))
    pair = pv.Pair(
        models.VAE(likelihood, decoder, 2),
        guides.MeanField(nets.ColumnEncoder.of(table.schema, 2, hidden=(4,))),
    )
    pv.fit(pair, pv.estimators.ELBO(), table, epochs=1, progress=False)
    return pair, table.schema


def test_a_split_of_another_table_comes_in_the_units_and_classes_of_the_first():
    pair, schema = trained()
    other = data.table(columns(30, 70.0, "yz", "vw"), columns={"class": "label"}).train
    there = of_table(other, pair)
    assert there.naming.schema == schema
    (own,) = other.tensors()[:1]
    (x,) = there.tensors()[:1]
    before, after = other.naming.schema.inverse(own), schema.inverse(x)
    assert torch.allclose(torch.tensor(before["a"]), torch.tensor(after["a"]), atol=1e-3)
    assert before["k"].tolist() == after["k"].tolist()
    names = [other.naming.schema.label.levels[place] for place in other.y]
    assert [schema.label.levels[place] for place in there.y] == names
    judged, frame = (pv.evaluate.bounds(pair, each, progress=False) for each in (other, before))
    assert float(judged.per_datum.mean()) == pytest.approx(float(frame.per_datum.mean()), rel=1e-3)
    with pytest.raises(DataError, match="holds 'q', which is none of its levels x, y, z"):
        of_table(data.table(columns(30, 50.0, "xq"), columns={"class": "label"}).train, pair)


def test_its_own_table_stays_as_it_is():
    pair, _ = trained()
    table = data.table(columns(60, 50.0), columns={"class": "label"})
    assert of_table(table.train, pair) is table.train


def test_what_float32_has_rounded_is_a_level_again_and_truth_values_come_as_texts():
    """Few rows of whole numbers are guessed to be numeric, and were 2.00000002 among levels 0, 1, 2."""
    rows = {
        "height": [round(150 + 0.7 * n, 1) for n in range(60)],
        "visits": [n % 7 for n in range(60)],
        "member": [n % 3 == 0 for n in range(60)],
    }
    schema = data.table(rows).schema
    assert [column.kind for column in schema] == ["numeric", "ordinal", "category"]
    x = schema.forward(rows)
    back = schema.inverse(x)
    assert back["height"].tolist() == rows["height"]
    few = {name: values[:8] for name, values in rows.items()} | {"member": list(map(str, rows["member"][:8]))}
    other = data.table(few, columns={"visits": "numeric"})
    assert other.schema.inverse(other.schema.forward(few))["visits"].tolist() == rows["visits"][:8]
    assert schema.forward(few).equal(x[:8])
