"""Files of two runs in one folder: refused, also where pair, shapes and data are the same."""

import shutil

import pytest
import torch
from torch import nn

import ppl_vae as pv
from ppl_vae import estimators, guides, likelihoods, models, nets

X = torch.rand(24, 6, generator=torch.Generator().manual_seed(0)).round()


def make_pair(activation="tanh"):
    torch.manual_seed(0)
    decoder = nets.MLPDecoder(latent_dim=1, shape=(6,), hidden=(3,), activation=activation)
    encoder = nets.MLPEncoder((6,), latent_dim=1, hidden=(3,), activation=activation)
    return pv.Pair(
        models.VAE(likelihoods.Bernoulli(event_dim=1), decoder, latent_dim=1), guides.MeanField(encoder)
    )


def train(folder, pair=None, **options):
    options = {"epochs": 1, "seed": 0, **options}
    return pv.fit(
        pair or make_pair(),
        estimators.ELBO(),
        X,
        run_dir=folder,
        batch_size=8,
        progress=False,
        device="cpu",
        **options,
    )


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    home = tmp_path_factory.mktemp("runs")
    train(home / "a")
    train(home / "other pair", make_pair("relu"))
    train(home / "other seed", seed=1)
    return home


@pytest.mark.parametrize("other", ["other pair", "other seed"])
@pytest.mark.parametrize(
    "names", [["weights.safetensors"], ["config.yaml"], ["weights.safetensors", "metrics.csv"]]
)
def test_files_of_two_runs_are_refused(other, names, runs, tmp_path):
    folder = shutil.copytree(runs / "a", tmp_path / "run")
    for name in names:
        shutil.copy(runs / other / name, folder)
    with pytest.raises(pv.RunError, match=r"weights.safetensors and config.yaml are of two runs"):
        pv.load(folder)
    with pytest.raises(pv.RunError, match="are of two runs"):
        pv.load(folder, pair=make_pair())
    whole = train(
        folder, epochs=2, resume=True
    ).pair  # the checkpoint is the run's own: resuming mends the folder
    assert all(map(torch.equal, pv.load(folder).parameters(), whole.parameters()))


def test_a_longer_run_and_an_edited_config_stay_readable(runs, tmp_path):
    folder = shutil.copytree(runs / "a", tmp_path / "run")
    weights = (folder / "weights.safetensors").read_bytes()
    train(folder, epochs=3, resume=True, checkpoint_every=2, capture=False)
    (folder / "weights.safetensors").write_bytes(
        weights
    )  # as a kill after the configuration's write leaves it
    assert isinstance(pv.load(folder).model, nn.Module)
    text = (folder / "config.yaml").read_text().partition("\n")[2]
    (folder / "config.yaml").write_text(text.replace("seed: 0", "seed: 5"))
    pv.load(folder)
