"""The wheel and the sdist: built here, unpacked elsewhere, and imported from there alone."""

from __future__ import annotations

import subprocess
import sys
import tarfile
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]

IMPORTED = """
import sys
sys.path.insert(0, {folder!r})
import torch, ppl_vae
from pathlib import Path
from ppl_vae import Pair, data, guides, likelihoods, models, nets
home = Path({folder!r}).resolve()
for module in (ppl_vae, models, guides, nets, data):
    assert Path(module.__file__).resolve().is_relative_to(home), module.__file__
decoder = nets.MLPDecoder(latent_dim=2, shape=(1, 8, 8))
model = models.VAE(likelihoods.Bernoulli(), decoder, latent_dim=2)
pair = Pair(model, guides.MeanField(nets.MLPEncoder((1, 8, 8), latent_dim=2)))
from ppl_vae.testing import check_pair
print(check_pair(pair, torch.bernoulli(torch.full((4, 1, 8, 8), 0.5))))
from ppl_vae.cli import main
assert main(["list", "models"]) == 0
"""


def build(what: str, source: Path, out: Path) -> Path:
    """Build a `wheel` or an `sdist` of a tree, without isolation and so without a network."""
    command = [
        sys.executable,
        "-m",
        "build",
        f"--{what}",
        "--no-isolation",
        "--outdir",
        str(out),
        str(source),
    ]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    (built,) = out.iterdir()
    return built


@pytest.fixture(scope="module")
def source(tmp_path_factory):
    """What git would hand out: a copy without caches and builds, since building writes into the tree."""
    tree = tmp_path_factory.mktemp("tree") / "ppl_vae"
    tree.mkdir()
    names = ("pyproject.toml", "README.md", "LICENSE", "MANIFEST.in", "ppl_vae", "models", "guides")
    present = [name for name in names if (ROOT / name).exists()]
    pack = subprocess.run(
        ["tar", "-C", str(ROOT), "--exclude=__pycache__", "-cf", "-", *present],
        capture_output=True,
        check=True,
    )
    subprocess.run(["tar", "-C", str(tree), "-xf", "-"], input=pack.stdout, check=True)
    assert (tree / "ppl_vae/models").is_symlink()
    return tree


@pytest.fixture(scope="module")
def sdist(source, tmp_path_factory):
    """The sdist, unpacked."""
    built = build("sdist", source, tmp_path_factory.mktemp("sdist"))
    folder = tmp_path_factory.mktemp("unpacked")
    with tarfile.open(built) as archive:
        archive.extractall(folder, filter="data")
    (tree,) = folder.iterdir()
    return tree


@pytest.fixture(scope="module")
def wheel(sdist, tmp_path_factory):
    """The wheel that the sdist gives, unpacked: what `pip install` puts into an environment."""
    built = build("wheel", sdist, tmp_path_factory.mktemp("wheel"))
    folder = tmp_path_factory.mktemp("installed")
    with zipfile.ZipFile(built) as archive:
        archive.extractall(folder)
    return folder


def test_sdist_holds_real_files(sdist):
    for package in ("ppl_vae", "ppl_vae/models", "ppl_vae/guides", "ppl_vae/cli"):
        assert (sdist / package / "__init__.py").is_file()
        assert not (sdist / package).is_symlink()
    assert "Apache License" in (sdist / "LICENSE").read_text()
    assert (sdist / "README.md").is_file()


def test_wheel_holds_every_module_and_nothing_else(wheel):
    here = {
        path.relative_to(ROOT).as_posix()
        for kind in ("*.py", "*.cpp")
        for path in (ROOT / "ppl_vae").rglob(kind)
    }
    for name in ("models", "guides"):  # rglob does not follow links
        here |= {f"ppl_vae/{name}/{path.name}" for path in (ROOT / name).glob("*.py")}
    packed = {path.relative_to(wheel).as_posix() for path in (wheel / "ppl_vae").rglob("*") if path.is_file()}
    assert packed == here
    assert {path.name for path in wheel.iterdir() if not path.name.endswith(".dist-info")} == {"ppl_vae"}
    (metadata,) = wheel.glob("*.dist-info")
    assert (metadata / "licenses/LICENSE").read_text() == (ROOT / "LICENSE").read_text()
    assert "ppl-vae = ppl_vae.cli:main" in (metadata / "entry_points.txt").read_text()


def test_wheel_is_imported_from_its_folder_alone(wheel, tmp_path):
    script = IMPORTED.format(folder=str(wheel))
    done = subprocess.run(
        [sys.executable, "-I", "-c", script], cwd=tmp_path, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    assert "the pair keeps the contract" in done.stdout
    assert "VAE" in done.stdout


@pytest.mark.parametrize("name", ["models", "guides"])
def test_plain_import_is_refused_in_one_line(name):
    done = subprocess.run(
        [sys.executable, "-c", f"import {name}"], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert done.returncode == 1
    last = done.stderr.strip().splitlines()[-1]
    assert last.startswith("ImportError: ")
    assert f"ppl_vae.{name}" in last


def test_license_is_the_unmodified_apache_text():
    text = (ROOT / "LICENSE").read_text()
    assert text.lstrip().startswith("Apache License")
    assert "Version 2.0, January 2004" in text
    assert "END OF TERMS AND CONDITIONS" in text
    assert "Copyright [yyyy] [name of copyright owner]" in text
    assert len(text) == 11_358
