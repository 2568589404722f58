"""A reader that leaves (`ppl-vae train ... | head -1`) stops the printing and not the work."""

from __future__ import annotations

import contextlib
import io

import pytest

from ppl_vae.cli import main


class Leaving(io.StringIO):
    """A pipe whose reader leaves after the first words."""

    def write(self, text):
        if self.tell():
            raise BrokenPipeError
        return super().write(text)

    def fileno(self):
        raise io.UnsupportedOperation


def test_a_list_ends_without_a_complaint():
    with contextlib.redirect_stdout(Leaving()) as leaving:
        assert main(["list", "schedules"]) == 0
    assert leaving.tell() > 0


@pytest.mark.filterwarnings("ignore")
def test_a_training_ends_with_its_report(tmp_path):
    options = "--data digits --epochs 1 --progress false --evaluate.num_particles 5 --report.figures false"
    with contextlib.redirect_stdout(Leaving()) as leaving:
        assert main(["train", *options.split(), "--run_dir", str(tmp_path / "run")]) == 0
    assert leaving.tell() > 0
    assert (tmp_path / "run" / "summary.txt").exists()
