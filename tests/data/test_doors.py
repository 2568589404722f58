"""Files that are no data: each is one DataError, at once, whatever stands in it."""

from __future__ import annotations

import os
import struct
import zipfile
import zlib

import numpy as np
import pytest
from PIL import Image

from ppl_vae.data import DataError, load


def png(width, height):
    """A grey PNG of zeros, some bytes for any number of pixels."""

    def chunk(name, content):
        return (
            struct.pack(">I", len(content)) + name + content + struct.pack(">I", zlib.crc32(name + content))
        )

    head = struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0)
    return (
        b"\x89PNG\r\n\x1a\n"
        + chunk(b"IHDR", head)
        + chunk(b"IDAT", zlib.compress(b"\0" * 1000))
        + chunk(b"IEND", b"")
    )


@pytest.fixture
def images(tmp_path):
    Image.fromarray(np.zeros((4, 4), np.uint8)).save(tmp_path / "first.png")
    return tmp_path


@pytest.mark.parametrize("side", [12_000, 60_000])  # what PIL warns of, and what it refuses
def test_an_image_that_unpacks_to_gigabytes(side, images):
    (images / "bomb.png").write_bytes(png(side, side))
    with pytest.raises(DataError, match=r"bomb\.png would unpack to more than"):
        load(images)


def test_an_image_that_is_damaged_where_it_is_decoded(images):
    for name in "abcdefghi":
        (images / f"{name}.png").write_bytes(png(4, 4)[:-40])
    with pytest.raises(DataError, match="cannot be read as an image"):
        load(images).train.tensors()


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="needs pipes")
@pytest.mark.parametrize("name", ["a.png", "x.npz", "x.npy", "x.csv"])
def test_a_pipe_is_not_waited_for(name, images):
    os.mkfifo(images / name)
    with pytest.raises(DataError, match="is no regular file"):
        load(images if name == "a.png" else images / name)


def test_a_folder_called_like_an_image_is_a_folder(images):
    (images / "more.png").mkdir()
    for number in range(12):
        Image.fromarray(np.full((4, 4), number, np.uint8)).save(images / "more.png" / f"{number}.png")
    assert load(images).shape == (1, 4, 4)


def test_a_link_to_nothing(images):
    (images / "gone.png").symlink_to(images / "nothing.png")
    with pytest.raises(DataError, match=r"gone\.png is no regular file"):
        load(images)


def archive(path, members):
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as file:
        for name, content in members.items():
            file.writestr(name, content)
    return path


def array_bytes(tmp_path, array):
    np.save(tmp_path / "array.npy", array)
    return (tmp_path / "array.npy").read_bytes()


def test_members_that_are_no_arrays(tmp_path):
    members = {"x.npy": array_bytes(tmp_path, np.ones((30, 3))), "notes.txt": b"hello"}
    with pytest.raises(DataError, match=r"'notes\.txt' in it are no arrays"):
        load(archive(tmp_path / "mixed.npz", members))
    with pytest.raises(DataError, match="no arrays"):
        load(archive(tmp_path / "text.npz", {"x": b"hello"}))


def test_members_that_are_encrypted(tmp_path):
    path = archive(tmp_path / "locked.npz", {"x.npy": array_bytes(tmp_path, np.ones((30, 3)))})
    content = bytearray(path.read_bytes())
    for signature, offset in ((b"PK\x03\x04", 6), (b"PK\x01\x02", 8)):  # the flags of both headers
        content[content.index(signature) + offset] |= 1
    path.write_bytes(content)
    with pytest.raises(DataError, match=r"locked\.npz is encrypted"):
        load(path)


def test_an_archive_that_unpacks_to_gigabytes(tmp_path):
    path = tmp_path / "bomb.npz"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as file, file.open("x.npy", "w") as member:
        np.lib.format.write_array_header_1_0(
            member, {"descr": "|u1", "fortran_order": False, "shape": (200, 2**20)}
        )
        for _ in range(200):
            member.write(bytes(2**20))
    with pytest.raises(DataError, match="would unpack to 209,7"):
        load(path)
    np.savez_compressed(tmp_path / "sparse.npz", x=np.zeros((1000, 28, 28), np.uint8))
    assert load(tmp_path / "sparse.npz").shape == (1, 28, 28)


@pytest.mark.parametrize(
    "header",
    [
        "{'descr': '|u1', 'fortran_order': False, 'shape': (%s,)}" % 10**18,
        "{'descr': '|u1', 'fortran_order': False, 'shape': (-5, 3)}",
        "{'descr': '|u1', 'fortran_order': False, 'shape': %s}" % ("(" * 500 + ")" * 500),
        "{'descr': 'V9', 'fortran_order': False, 'shape': (2, 3)}",
        "{'descr': '|O', 'fortran_order': False, 'shape': (2, 3)}",
        "__import__('os').system('touch ran')",
        "{",
    ],
    ids=range(7),
)
@pytest.mark.parametrize("suffix", [".npy", ".npz"])
def test_headers_that_no_array_has(header, suffix, tmp_path):
    text = header.encode() + b"\n"
    content = b"\x93NUMPY\x01\x00" + struct.pack("<H", len(text)) + text + bytes(100)
    path = tmp_path / f"odd{suffix}"
    path.write_bytes(content) if suffix == ".npy" else archive(path, {"x.npy": content})
    with pytest.raises(DataError):
        load(path)


@pytest.mark.parametrize(
    ("name", "options", "says"),
    [
        ("pinwheel", {"root": "."}, "is drawn; leave root out"),
        ("rows.npy", {"root": "."}, "leave root out"),
        ("digits", {"memory_limit": 10}, "leave it out"),
        ("rows.csv", {"memory_limit": 10}, "leave it out"),
        ("rows.npy", {"memory_limit": 1.5}, "whole number of bytes"),
        ("rows.npy", {"image_size": 8}, "image_size is for"),
        ("rows.npy", {"num_data": 8}, "is not drawn"),
        ("pinwheel", {"image_size": 8}, "image_size"),
        ("digits", {"seed": 0.5}, "seed must be a whole number"),
        ("digits", {"labels": "no"}, "labels"),
        ("digits", {"image_size": True}, "image_size"),
        ("digits", {"valid_fraction": "0.1"}, "valid_fraction"),
        ("digits", {"valid_fraction": float("nan")}, "valid_fraction"),
    ],
)
def test_options_that_would_do_nothing(name, options, says, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    np.save("rows.npy", np.ones((30, 3), np.float32))
    np.savetxt("rows.csv", np.ones((30, 3)), delimiter=",")
    with pytest.raises(DataError, match=says):
        load(name, **options)
