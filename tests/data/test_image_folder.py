"""A folder of images: labels from subfolders, one size, decoded when read."""

from __future__ import annotations

import pickle
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from ppl_vae.data import DataError, load
from ppl_vae.data.image_folder import in_threads

RNG = np.random.default_rng(0)


def save(path, size=(6, 5), mode="L", value=None):
    path.parent.mkdir(parents=True, exist_ok=True)
    channels = {"L": (), "RGB": (3,), "RGBA": (4,), "LA": (2,)}[mode]
    pixels = RNG.integers(0, 256, (*size, *channels), dtype=np.uint8)
    if value is not None:
        pixels[:] = value
    Image.fromarray(pixels).save(path)
    return pixels


def test_images_are_streamed_in_sorted_order_with_labels(tmp_path):
    pixels = {}
    for label, name in enumerate(["ants", "bees"]):
        for i in range(10):
            pixels[label, i] = save(tmp_path / name / f"{i}.png")
    (tmp_path / "ants" / "notes.txt").write_text("not an image")
    data = load(tmp_path, labels=True)
    assert (data.shape, data.train.resident) == ((1, 6, 5), False)
    assert [len(part) for part in (data.train, data.valid, data.test)] == [14, 2, 4]
    seen = 0
    for part in (data.train, data.valid, data.test):
        x, y = part.tensors()
        for image, label in zip((x[:, 0] * 255).round(), y.tolist()):
            found = [key for key, value in pixels.items() if np.array_equal(value, image)]
            assert [key[0] for key in found] == [label]
            seen += 1
    assert seen == 20


def test_a_flat_folder_has_no_labels(tmp_path):
    for i in range(12):
        save(tmp_path / f"{i}.PNG", mode="RGB")
    data = load(tmp_path)
    assert data.shape == (3, 6, 5)
    assert data.train.labels is None
    with pytest.raises(DataError, match="has no labels"):
        load(tmp_path, labels=True)


def test_parts_as_subfolders(tmp_path):
    for part, count in (("train", 6), ("val", 3), ("test", 2)):
        for name in ("a", "b"):
            for i in range(count):
                save(tmp_path / part / name / f"{i}.png")
    data = load(tmp_path, labels=True)
    assert [len(part) for part in (data.train, data.valid, data.test)] == [12, 6, 4]
    assert data.test.labels.tolist() == [0, 0, 1, 1]


def test_colour_order_and_transparency(tmp_path):
    for i in range(10):
        save(tmp_path / f"{i}.png", mode="RGBA", value=[255, 51, 0, 128])
    (x,) = load(tmp_path).train.tensors()
    assert x.shape[1:] == (3, 6, 5)
    torch.testing.assert_close(x[0, :, 0, 0], torch.tensor([1.0, 0.2, 0.0]))


def test_grey_and_colour_together_are_colour(tmp_path):
    save(tmp_path / "0.png", mode="LA")
    for i in range(1, 10):
        save(tmp_path / f"{i}.png", mode="RGB" if i == 7 else "L")
    assert load(tmp_path).shape == (3, 6, 5)


def test_jpg_is_read(tmp_path):
    for i in range(10):
        save(tmp_path / f"{i}.jpg", size=(16, 16), value=i * 20)
    (x,) = load(tmp_path).train.tensors()
    values = (x.flatten(1).mean(1) * 255 / 20).round()
    assert len(values.unique()) == len(x)


def test_sizes_that_differ_need_image_size(tmp_path):
    for i in range(9):
        save(tmp_path / f"{i}.png")
    save(tmp_path / "9.png", size=(12, 20))
    with pytest.raises(DataError, match=r"9\.png is 12 x 20 .*give image_size"):
        load(tmp_path)
    assert load(tmp_path, image_size=8).train.tensors()[0].shape == (7, 1, 8, 8)
    assert load(tmp_path, image_size=(4, 6)).train.tensors()[0].shape == (7, 1, 4, 6)


@pytest.mark.parametrize("size", [0, -3, (4,), (4, 0), "big", (4, 4.5)])
def test_a_bad_image_size_is_named(tmp_path, size):
    with pytest.raises(DataError, match="image_size="):
        load("digits", image_size=size)


def test_a_folder_without_images_is_named(tmp_path):
    with pytest.raises(DataError, match="holds no images"):
        load(tmp_path)


def test_a_damaged_image_is_named(tmp_path):
    for i in range(10):
        save(tmp_path / f"{i}.png", size=(64, 64))
    good = (tmp_path / "3.png").read_bytes()
    (tmp_path / "3.png").write_bytes(b"not an image")
    with pytest.raises(DataError, match=r"3\.png cannot be read as an image"):
        load(tmp_path)
    (tmp_path / "3.png").write_bytes(good[: len(good) // 2])  # the header is whole
    data = load(tmp_path)
    with pytest.raises(DataError, match=r"3\.png cannot be read as an image"):
        [list(part.batches(2)) for part in (data.train, data.valid, data.test)]


def test_sixteen_bits_are_refused(tmp_path):
    Image.fromarray(np.zeros((4, 4), np.uint16)).save(tmp_path / "0.png")
    with pytest.raises(DataError, match="more than 8 bits"):
        load(tmp_path)


def test_a_folder_is_binarised_and_pickled_and_read_into_memory(tmp_path):
    for i in range(20):
        save(tmp_path / f"{i:02}.png")
    data = load(tmp_path, binarise="fixed")
    (x,) = data.train.tensors()
    assert x.unique().tolist() == [0.0, 1.0]
    assert torch.equal(pickle.loads(pickle.dumps(data.train)).tensors()[0], x)
    assert torch.equal(data.train.in_memory().tensors()[0], x)


@pytest.mark.parametrize("threads", [1, 3])
def test_threads_keep_the_order(threads, monkeypatch):
    monkeypatch.setattr("ppl_vae.data.image_folder.THREADS", threads)
    assert in_threads(lambda item: item * 2, range(20)) == list(range(0, 40, 2))


def test_a_folder_that_vanishes_while_it_is_listed_is_named(tmp_path, monkeypatch):
    save(tmp_path / "a.png")

    def vanishing(self, pattern):
        raise FileNotFoundError(2, "No such file or directory", str(self / "gone"))

    monkeypatch.setattr(Path, "rglob", vanishing)
    with pytest.raises(DataError, match=r"cannot be listed .*gone.*images alone"):
        load(tmp_path)
