"""The picture of each layer's KL term: bands as high as the terms, in the order of the columns."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from ppl_vae import plots


def history(sites, epochs=4):
    rows = {"epoch": range(1, epochs + 1), "train_elbo": -1.0}
    terms = {f"train_kl_{site}": np.linspace(1, 2, epochs) * (i + 1) for i, site in enumerate(sites)}
    return pd.DataFrame({**rows, **terms})


def test_bands_are_as_high_as_the_terms():
    given = history(["z3", "z2", "z1"])
    ax = plots.layer_kl(given)
    tops = [band.get_paths()[0].vertices[:, 1].max() for band in ax.collections]
    assert tops == pytest.approx([2.0, 6.0, 12.0])
    assert [text.get_text() for text in ax.get_legend().get_texts()] == ["z1", "z2", "z3"]
    assert ax.get_ylabel() == "nats per datum"


def test_of_many_layers_some_are_named_and_epochs_without_a_value_are_left_out():
    given = history([f"z{layer}" for layer in range(50, 0, -1)]).rename(
        columns=lambda name: name.replace("train_kl", "valid_kl")
    )
    given.loc[1, "valid_kl_z7"] = np.nan
    ax = plots.layer_kl(given, "valid")
    assert len(ax.collections) == 50
    named = [text.get_text() for text in ax.get_legend().get_texts()]
    assert named[0] == "z1"
    assert named[-1] == "z50"
    assert len(named) == 7
    assert 2 not in ax.collections[0].get_paths()[0].vertices[:, 0]


def test_a_history_without_them_is_refused():
    with pytest.raises(ValueError, match="no column begins with 'valid_kl_'"):
        plots.layer_kl(history(["z"]), "valid")
