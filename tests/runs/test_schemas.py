"""A table with gaps from its file to samples in the user's units: trained, saved, loaded, asked."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch

import ppl_vae as pv
from ppl_vae import data, estimators, evaluate, guides, likelihoods, models, nets
from ppl_vae.testing import check_pair

UCI = Path(os.environ.get("PPL_VAE_DATA", "")) / "uci"
LATENT = 2


def pair_of(table: data.DataSet, hidden: tuple[int, ...] = (16,), latent_dim: int = LATENT) -> pv.Pair:
    torch.manual_seed(0)
    likelihood = likelihoods.Mixed.of(table.schema)
    decoder = nets.MLPDecoder(latent_dim, likelihood.raw_shape(table.shape), hidden)
    nets.centre_output(decoder, likelihood, table.train.mean()[None])
    encoder = nets.ColumnEncoder.of(table.schema, latent_dim, hidden=hidden)
    return pv.Pair(models.VAE(likelihood, decoder, latent_dim), guides.MeanField(encoder))


def people(number: int = 400) -> pd.DataFrame:
    """Columns of all kinds that hang on one number, the age."""
    generator = np.random.default_rng(0)
    age = generator.normal(size=number)
    made = pd.DataFrame(
        {
            "height in cm": 170 + 7 * age + generator.normal(size=number),
            "income": np.exp(9 + age + 0.1 * generator.normal(size=number)),
            "visits": generator.poisson(np.exp(1 + 0.5 * age)),
            "grade": np.digitize(age + 0.3 * generator.normal(size=number), [-1, 0, 1]),
            "size": np.array(["S", "M", "L"])[np.digitize(age, [-0.7, 0.7])],
            "member": age + 0.5 * generator.normal(size=number) > 0,
        }
    )
    return made.mask(generator.random(made.shape) < 0.3)


CHOICES = {"income": "log", "size": ["S", "M", "L"], "visits": "count", "grade": "ordinal"}


def test_a_table_with_gaps_trains_and_answers_in_the_users_units(tmp_path):
    given = people()
    table = data.table(given, columns=CHOICES, name="people")
    assert abs(float(table.train.tensors()[0].isnan().float().mean()) - 0.3) < 0.05
    pair = pair_of(table)
    report = check_pair(pair, *table.valid.take(8).tensors())
    assert report.observed_sites == {"x": (6,)}
    run = pv.fit(
        pair, estimators.IWAE(5), table, epochs=40, learning_rate=1e-2, run_dir=tmp_path, capture=False
    )
    bounds = run.history["valid_bound"]
    assert bounds.iloc[-1] > bounds.iloc[0] + 0.5

    loaded, schema = pv.load(tmp_path), pv.load_schema(tmp_path)
    assert repr(schema) == repr(table.schema)
    x = table.test.tensors()[0]
    assert torch.equal(pv.encode(loaded, x, seed=0).mean, pv.encode(pair, x, seed=0).mean)

    drawn = schema.inverse(pv.sample(loaded, 3000, seed=0).value)
    assert list(drawn.columns) == list(given.columns)
    assert not drawn.isna().any(axis=None)
    seen = given["height in cm"].dropna()
    assert abs(drawn["height in cm"].mean() - seen.mean()) < 0.3 * seen.std()
    assert 0.5 < drawn["height in cm"].std() / seen.std() < 1.5
    assert abs(np.log(drawn["income"]).mean() - np.log(given["income"].dropna().astype(float)).mean()) < 0.4
    assert set(drawn["size"]) == {"S", "M", "L"}
    assert set(drawn["grade"]) == {0, 1, 2, 3}
    assert set(drawn["member"]) == {True, False}
    assert (drawn["visits"] >= 0).all()
    assert drawn["visits"].dtype == np.int64
    # the columns hang together as they do in the table
    assert drawn["height in cm"].corr(np.log(drawn["income"])) > 0.5

    again = schema.inverse(pv.reconstruct(loaded, x, seed=0).mean)
    known = schema.inverse(x)["height in cm"]
    assert again["height in cm"].corr(known) > 0.6
    score = evaluate.log_likelihood(loaded, table.test, num_particles=50, progress=False)
    assert np.isfinite(score.value)
    assert evaluate.bounds(loaded, table.test, progress=False).elbo < score.value


def test_gaps_are_imputed_better_than_by_the_mean():
    given = people()
    table = data.table(given, columns=CHOICES)
    pair = pair_of(table)
    pv.fit(pair, estimators.ELBO(), table, epochs=60, learning_rate=1e-2, capture=False)
    complete = table.test.tensors()[0]
    seen = ~complete[:, 0].isnan()
    hidden = complete[seen].clone()
    hidden[:, 0] = torch.nan
    filled = pv.reconstruct(pair, hidden, num_samples=20, seed=0).mean.mean(0)[:, 0]
    error = (filled - complete[seen, 0]).square().mean()
    assert error < 0.6 * complete[seen, 0].square().mean()


def test_a_run_of_no_table(tmp_path):
    x = torch.randn(60, 3)
    pair = pv.Pair(models.LinearGaussian(2, 3), guides.MeanField(nets.MLPEncoder((3,), 2, (4,))))
    pv.fit(pair, estimators.ELBO(), x, epochs=1, run_dir=tmp_path, capture=False)
    with pytest.raises(pv.RunError, match="trained on no table"):
        pv.load_schema(tmp_path)
    with pytest.raises(pv.RunError, match="there is no folder"):
        pv.load_schema(tmp_path / "gone")


def test_a_damaged_schema_is_named(tmp_path):
    table = data.table(people(60), columns=CHOICES)
    pv.fit(pair_of(table), estimators.ELBO(), table, epochs=1, run_dir=tmp_path, capture=False)
    config = tmp_path / "config.yaml"
    text = config.read_text().replace("kind: ordinal", "kind: odd")
    config.write_text("\n".join(line for line in text.splitlines() if not line.startswith("#")))
    with pytest.raises(pv.RunError, match="no column of a table's schema"):
        pv.load_schema(tmp_path)


@pytest.mark.skipif(not os.environ.get("PPL_VAE_DATA") or not UCI.is_dir(), reason="needs the UCI tables")
def test_the_wines_with_gaps(tmp_path):
    frames = [
        pd.read_csv(UCI / f"winequality-{colour}.csv", sep=";").assign(type=colour)
        for colour in ("red", "white")
    ]
    whole = pd.concat(frames, ignore_index=True)
    generator = np.random.default_rng(0)
    wine = data.table(whole.mask(generator.random(whole.shape) < 0.3), name="wine")
    assert [column.kind for column in wine.schema][-2:] == ["ordinal", "category"]
    pair = pair_of(wine, hidden=(64,), latent_dim=5)
    run = pv.fit(pair, estimators.ELBO(), wine, epochs=15, learning_rate=3e-3, capture=False)
    assert run.history["valid_bound"].iloc[-1] > run.history["valid_bound"].iloc[0] + 1
    drawn = wine.schema.inverse(pv.sample(pair, 4000, seed=0).value)
    for name in ("alcohol", "pH", "total sulfur dioxide", "density"):
        assert abs(drawn[name].mean() - whole[name].mean()) < 0.3 * whole[name].std()
        assert 0.6 < drawn[name].std() / whole[name].std() < 1.5
    assert abs((drawn["type"] == "red").mean() - (whole["type"] == "red").mean()) < 0.12
    assert set(drawn["quality"]) <= set(whole["quality"])
    assert drawn["density"].corr(drawn["alcohol"]) < -0.3  # -0.69 in the table


def test_frames_are_brought_to_x_by_the_schema_of_the_training(tmp_path):
    """Numbers alone too, which would else be taken as they stand."""
    given = people(200)[["height in cm", "income", "visits"]].dropna()
    table = data.table(given, columns={"income": "log", "visits": "count"})
    pair = pair_of(table)
    pv.fit(pair, estimators.ELBO(), table.train, epochs=1, run_dir=tmp_path, capture=False)
    rows, x = given.head(20), table.schema.forward(given.head(20))
    for each in (pair, pv.load(tmp_path)):
        assert repr(each.schema) == repr(table.schema)
        assert evaluate.bounds(each, rows, seed=0).elbo == evaluate.bounds(each, x, seed=0).elbo
        assert torch.equal(pv.encode(each, rows, seed=0).mean, pv.encode(each, x, seed=0).mean)
        assert check_pair(each, rows).hints == ()
    with pytest.raises(data.DataError, match="no column 'income'"):
        pv.encode(pair, rows.drop(columns="income"))
    run = pv.fit(pair, estimators.ELBO(), given, epochs=1, capture=False, run_dir=tmp_path / "again")
    assert run.hints == ()
    assert pv.load_schema(tmp_path / "again").names == table.schema.names
    compared = pv.compare(
        lambda seed: pair_of(table), {"ELBO": estimators.ELBO()}, table, epochs=1, seeds=[0], judge_on=rows,
        judge_particles=10, run_dir=tmp_path / "runs", progress=False, capture=False,
    )  # fmt: skip
    assert compared is not None


def test_labels_of_a_frame_go_along():
    given = people(200)
    given["member"] = given["member"].fillna(False)
    table = data.table(given, columns={**CHOICES, "member": "label"}, labels=True)
    likelihood = likelihoods.Mixed.of(table.schema)
    decoder = nets.MLPDecoder(LATENT + 2, likelihood.raw_shape(table.shape), (8,))
    model = models.ConditionalVAE(likelihood, decoder, LATENT, 2)
    guide = guides.Conditional(nets.ColumnEncoder.of(table.schema, LATENT, hidden=(8,)), 2)
    pair = pv.Pair(model, guide)
    pv.fit(pair, estimators.ELBO(), table, epochs=1, capture=False)
    x, y = (
        table.schema.forward(given.head(9)),
        torch.tensor(given["member"].head(9).to_numpy(dtype=bool)).long(),
    )
    assert torch.equal(pv.encode(pair, given.head(9), seed=0).mean, pv.encode(pair, x, y, seed=0).mean)
