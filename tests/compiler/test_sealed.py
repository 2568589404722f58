"""Libraries whose link was killed, or that were damaged, are linked again; whole ones are not."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from ppl_vae.compiler.sealed import sealed, whole

codecache = pytest.importorskip("torch._inductor.codecache")


class Builder:
    """Stands for Inductor's, and counts."""

    def __init__(self, path: Path) -> None:
        self.path, self.built = path, 0

    def get_target_file_path(self) -> str:
        return str(self.path)

    def build(self) -> None:
        assert not self.path.exists(), "a process may have loaded it"
        self.path.write_bytes(b"linked" * 100)
        self.built += 1


def cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:200])


def empty(path: Path) -> None:
    path.write_bytes(b"")


def one_byte_less(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-1])


def another_byte(path: Path) -> None:
    path.write_bytes(path.read_bytes().replace(b"d", b"D", 1))


def without_a_checksum(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-4])


def a_folder(path: Path) -> None:
    path.unlink()
    path.mkdir()
    (path / "file").touch()


def a_pipe(path: Path) -> None:
    path.unlink()
    os.mkfifo(path)


DAMAGES = [Path.unlink, empty, cut, one_byte_less, another_byte, without_a_checksum, a_folder, a_pipe]


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_damaged_library_is_linked_again(damage, tmp_path):
    builder = Builder(tmp_path / "one.main.so")
    for times in (1, 2):
        assert not whole(str(builder.path))
        for _ in range(2):
            with sealed():
                codecache._worker_compile_cpp(str(tmp_path / "lock"), (builder,))
            assert whole(str(builder.path))
            assert builder.built == times
        damage(builder.path)


def test_a_header_is_left_as_it_is(tmp_path):
    builder = Builder(tmp_path / "one.h.gch")
    with sealed():
        codecache._worker_compile_cpp(str(tmp_path / "lock"), (builder,))
    assert builder.path.read_bytes() == b"linked" * 100
