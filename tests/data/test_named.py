"""Data sets by name: the bundled one, those of torchvision, real MNIST where it is at hand."""

from __future__ import annotations

import os
import random
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
import torchvision.datasets
from PIL import Image

from ppl_vae.data import NAMES, DataError, MissingDataError, data_root, load
from ppl_vae.data.array_shapes import resize

REAL = Path(os.environ.get("PPL_VAE_DATA", "no such folder"))
needs_mnist = pytest.mark.skipif(not (REAL / "MNIST" / "raw").is_dir(), reason="PPL_VAE_DATA holds no MNIST")
needs_static_mnist = pytest.mark.skipif(
    not (REAL / "static_mnist.npz").is_file(), reason="PPL_VAE_DATA holds no static_mnist.npz"
)


def parts(data):
    return data.train, data.valid, data.test


def test_digits():
    data = load("digits", binarise=None, labels=True)
    assert [len(part) for part in parts(data)] == [1258, 180, 359]
    x, y = (torch.cat(each) for each in zip(*(part.tensors() for part in parts(data))))
    from sklearn.datasets import load_digits

    pixels, labels = load_digits(return_X_y=True)
    wanted = sorted((*row, label) for row, label in zip((pixels / 16).tolist(), labels.tolist()))
    assert sorted((*r, label) for r, label in zip(x.flatten(1).tolist(), y.tolist())) == wanted
    assert x.shape[1:] == data.shape == (1, 8, 8)


def test_digits_are_dynamic_unless_said_otherwise():
    assert load("digits").train.dynamic
    assert not load("digits", binarise="fixed").train.dynamic
    assert not load("digits", binarise=None).train.dynamic
    first = load("digits").test.tensors()[0]
    assert torch.equal(first, load("digits").test.tensors()[0])
    assert not torch.equal(first, load("digits", seed=1).test.tensors()[0])


def test_loading_leaves_the_global_generators_alone():
    before = torch.get_rng_state(), np.random.get_state()[1].copy(), random.getstate()  # noqa: NPY002
    load("digits", seed=3)
    assert torch.equal(before[0], torch.get_rng_state())
    assert (before[1] == np.random.get_state()[1]).all()  # noqa: NPY002
    assert before[2] == random.getstate()


def test_known_images_are_resized():
    small = load("digits", binarise=None)
    large = load("digits", image_size=16, binarise=None)
    assert large.shape == (1, 16, 16)
    assert large.test.tensors()[0].max() <= 1
    assert (small.test.mean().mean() - large.test.mean().mean()).abs() < 0.01
    flat = torch.full((3, 1, 28, 28), 77, dtype=torch.uint8)
    assert resize(flat, (14, 10)).unique().tolist() == [77]


@pytest.mark.parametrize("name", ["Digits", "DIGITS"])
def test_names_are_read_in_any_case(name):
    assert load(name).name == "digits"


@pytest.mark.parametrize(
    ("name", "hint"), [("minst", "did you mean 'mnist'"), ("fashionmnist", "'fashion_mnist'")]
)
def test_an_unknown_name_is_named_with_a_suggestion(name, hint):
    with pytest.raises(DataError, match=hint) as caught:
        load(name)
    assert all(known in str(caught.value) for known in NAMES)
    assert "Or give the path" in str(caught.value)


def test_an_unknown_name_far_from_all_others():
    with pytest.raises(DataError, match=r"no data set is called 'qqqq'\. Known: digits"):
        load("qqqq")


def test_where_files_are_looked_for(monkeypatch):
    monkeypatch.setenv("PPL_VAE_DATA", "/somewhere")
    assert data_root() == Path("/somewhere")
    assert data_root("/else") == Path("/else")
    monkeypatch.delenv("PPL_VAE_DATA")
    assert data_root() == Path.home() / ".cache" / "ppl_vae"


# Through torchvision: small stand-ins, so that no file is needed


class Offline:
    """As torchvision without files and without a network."""

    def __init__(self, root, download=False, **options):
        if download:
            raise OSError("host is away")
        raise RuntimeError("Dataset not found. You can use download=True to download it")


ORDER = ["mnist", "fashion_mnist", "kmnist", "omniglot", "cifar10", "svhn"]
CLASSES = dict(zip(ORDER, ["MNIST", "FashionMNIST", "KMNIST", "Omniglot", "CIFAR10", "SVHN"]))
PLACES = ["MNIST/raw", "FashionMNIST/raw", "KMNIST/raw", "omniglot-py", "cifar-10-batches-py"]


@pytest.mark.parametrize(("name", "place"), list(zip(ORDER, [*PLACES, "SVHN/train_32x32.mat"])))
def test_a_failed_download_says_where_files_are_expected(name, place, monkeypatch, tmp_path):
    monkeypatch.setattr(torchvision.datasets, CLASSES[name], Offline)
    with pytest.raises(MissingDataError, match=r"the download failed \(host is away\)") as caught:
        load(name, root=tmp_path)
    assert str(tmp_path / place) in str(caught.value)
    assert "PPL_VAE_DATA" in str(caught.value)


def test_a_set_is_downloaded_only_where_it_is_missing(monkeypatch, tmp_path):
    calls = []

    def fake(root, download, train):
        calls.append((train, download))
        if train and not download:
            raise RuntimeError("Dataset not found.")
        return fake_mnist(root, download, train)

    monkeypatch.setattr(torchvision.datasets, "MNIST", fake)
    load("mnist", root=tmp_path)
    assert calls == [(True, False), (True, True), (False, False)]


def test_damaged_files_are_named(monkeypatch, tmp_path):
    raw = tmp_path / "MNIST" / "raw"
    raw.mkdir(parents=True)
    for part in ("train", "t10k"):
        for kind in ("images-idx3", "labels-idx1"):
            (raw / f"{part}-{kind}-ubyte").write_bytes(b"\x00\x00\x08\x03")
    with pytest.raises(DataError, match=r"MNIST: the files at .* cannot be read .*remove them"):
        load("mnist", root=tmp_path)


def fake_mnist(root, download, train):
    n = 50 if train else 20
    return SimpleNamespace(
        data=torch.randint(0, 256, (n, 28, 28), dtype=torch.uint8), targets=torch.arange(n) % 10
    )


def fake_cifar10(root, download, train):
    n = 50 if train else 20
    data = np.zeros((n, 32, 32, 3), np.uint8)
    data[..., 1] = 51
    return SimpleNamespace(data=data, targets=[i % 10 for i in range(n)])


def fake_svhn(root, download, split):
    n = 50 if split == "train" else 20
    data = np.zeros((n, 3, 32, 32), np.uint8)
    data[:, 1] = 51
    return SimpleNamespace(data=data, labels=np.arange(n) % 10)


def fake_omniglot(root, download, background):
    image = Image.new("L", (105, 105), 255)  # white paper
    image.paste(0, (0, 0, 52, 105))  # ink on the left
    return [(image, i // 5) for i in range(50 if background else 20)]


@pytest.mark.parametrize(
    ("name", "fake", "shape", "dynamic"),
    [
        ("mnist", fake_mnist, (1, 28, 28), True),
        ("fashion_mnist", fake_mnist, (1, 28, 28), True),
        ("kmnist", fake_mnist, (1, 28, 28), True),
        ("omniglot", fake_omniglot, (1, 28, 28), True),
        ("cifar10", fake_cifar10, (3, 32, 32), False),
        ("svhn", fake_svhn, (3, 32, 32), False),
    ],
)
def test_the_sets_of_torchvision(name, fake, shape, dynamic, monkeypatch, tmp_path):
    monkeypatch.setattr(torchvision.datasets, CLASSES[name], fake)
    data = load(name, root=tmp_path, labels=True)
    assert (data.name, data.shape, data.train.dynamic) == (name, shape, dynamic)
    assert [len(part) for part in parts(data)] == [45, 5, 20]
    x, y = data.test.tensors()
    assert (y.dtype, len(y), bool(x.min() >= 0), bool(x.max() <= 1)) == (
        torch.int64,
        20,
        True,
        True,
    )
    if shape[0] == 3:
        torch.testing.assert_close(x[0].mean((1, 2)), torch.tensor([0.0, 0.2, 0.0]))
    assert load(name, root=tmp_path, image_size=16).shape == (shape[0], 16, 16)
    with pytest.raises(DataError, match="has a test part of its own"):
        load(name, root=tmp_path, test_fraction=0.5)


def test_omniglot_is_ink_on_nothing_and_its_test_classes_are_other_classes(monkeypatch, tmp_path):
    monkeypatch.setattr(torchvision.datasets, "Omniglot", fake_omniglot)
    data = load("omniglot", root=tmp_path, binarise=None)
    mean = data.test.mean()[0]
    assert mean[:, :13].min() > 0.99
    assert mean[:, 15:].max() < 0.01
    known = set(data.train.labels.tolist()) | set(data.valid.labels.tolist())
    assert known == set(range(10))
    assert set(data.test.labels.tolist()) == set(range(10, 14))


def test_static_mnist_says_what_it_expects(tmp_path):
    with pytest.raises(MissingDataError, match=r"static_mnist\.npz.*\(50000, 28, 28\)"):
        load("static_mnist", root=tmp_path)
    with pytest.raises(DataError, match="cannot be resized"):
        load("static_mnist", root=tmp_path, image_size=14)


# The real files


@needs_mnist
def test_real_mnist():
    data = load("mnist", labels=True)
    assert repr(data) == "DataSet('mnist', train=50000, valid=10000, test=10000, shape=(1, 28, 28))"
    assert data.train.rows.dtype == torch.uint8
    assert data.train.labels[:5].tolist() == [5, 0, 4, 1, 9]
    assert data.test.labels[:5].tolist() == [7, 2, 1, 0, 4]
    assert data.train.mean().mean().item() == pytest.approx(0.1307, abs=2e-3)
    index = torch.arange(128)
    assert not torch.equal(data.train.batch(index)[0], data.train.batch(index)[0])
    assert torch.equal(data.test.batch(index)[0], data.test.batch(index)[0])
    assert data.test.batch(index)[0].unique().tolist() == [0.0, 1.0]


@needs_static_mnist
def test_real_static_mnist():
    data = load("static_mnist")
    assert [len(part) for part in parts(data)] == [50_000, 10_000, 10_000]
    assert data.shape == (1, 28, 28)
    assert not data.train.dynamic
    index = torch.arange(64)
    (x,) = data.train.batch(index)
    assert x.unique().tolist() == [0.0, 1.0]
    assert torch.equal(x, data.train.batch(index)[0])
    assert data.test.mean().mean().item() == pytest.approx(0.13, abs=0.01)
