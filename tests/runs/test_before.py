"""A folder that a version before wrote, as it was: it loads, is judged, goes on, and its command runs again.

`before_num_columns/` is a run of pinwheel from the day before tables came: its pair's tree lacks
`num_columns`, and its command the options of tables, widths and labels.
"""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
import yaml

import ppl_vae as pv
from ppl_vae import data, estimators, evaluate, guides, nets
from ppl_vae.cli import main
from ppl_vae.runs.trust import MODULES, ConfigError, find

THEN = Path(__file__).parent / "before_num_columns"


@pytest.fixture
def run(tmp_path):
    shutil.copytree(THEN, tmp_path / "run")
    assert "num_columns" not in (tmp_path / "run" / "config.yaml").read_text()
    assert "hidden" not in yaml.safe_load((tmp_path / "run" / "command.yaml").read_text())["pair"]
    return tmp_path / "run"


@pytest.fixture
def pinwheel():
    return data.load("pinwheel", num_data=300)


def test_it_loads_and_scores_as_then(run, pinwheel):
    pair = pv.load(run)
    assert pair.model.likelihood.num_columns == 1
    then = json.loads((run / "summary.json").read_text())
    assert evaluate.bounds(pair, pinwheel.test, seed=0).elbo == pytest.approx(then["elbo"], rel=1e-4)


def test_it_is_judged_and_goes_on_by_its_command(run, capsys):
    few = ("--evaluate.num_particles", "20", "--progress", "false")
    assert main(["evaluate", str(run), *few]) == 0
    command = ["train", "--config", str(run / "command.yaml"), "--run_dir", str(run)]
    assert main([*command, "--epochs", "3", "--resume"]) == 0, capsys.readouterr().err
    history = pv.runs.RunFolder(run).read_metrics()
    assert history["epoch"].tolist() == [1, 2, 3]
    assert "num_columns" in (run / "config.yaml").read_text()
    again = ["train", "--config", str(THEN / "command.yaml"), "--run_dir", str(run.parent / "again")]
    assert main(again) == 0, capsys.readouterr().err


def test_it_goes_on_in_python_as_if_it_had_never_stopped(run, pinwheel, tmp_path):
    pair = pv.load(run)
    told = {"epochs": 4, "batch_size": 50, "run_dir": run, "resume": True, "progress": False}
    resumed = pv.fit(pair, estimators.MeanFieldELBO(), pinwheel, **told)
    assert list(resumed.history["epoch"]) == [1, 2, 3, 4]
    assert resumed.history["train_bound"].iloc[-1] > resumed.history["train_bound"].iloc[0]
    other = pv.Pair(pair.model, pv.guides.FullRank(pair.guide.encoder))
    with pytest.raises(pv.RunError, match="guide"):
        pv.fit(other, estimators.MeanFieldELBO(), pinwheel, **{**told, "epochs": 5})


@pytest.mark.parametrize(
    ("then", "now"),
    [
        ("guides.experts.MixtureOfExperts", guides.MixtureOfExperts),
        ("guides.hamiltonian.RiemannianHamiltonian", guides.RiemannianHamiltonian),
        ("nets.denoisers.ConvDenoiser", nets.ConvDenoiser),
    ],
)
def test_a_class_that_another_file_has_now_is_found(then, now):
    assert find(f"ppl_vae.{then}", (), MODULES) is now
    with pytest.raises(ConfigError, match="is not a class"):
        find(f"ppl_vae.{then}s", (), MODULES)
