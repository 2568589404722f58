"""Every notebook runs, on a small budget; what is committed has its outputs, and no error or path in them.

`make notebooks` runs them in full.
"""

from __future__ import annotations

import os
import re
import sys
from pathlib import Path
from typing import Any

import nbformat
import pytest
from jupyter_client.kernelspec import KernelSpecManager
from jupyter_client.manager import AsyncKernelManager
from nbclient import NotebookClient
from traitlets import default

NOTEBOOKS = sorted((Path(__file__).parents[1] / "notebooks").glob("*.ipynb"))
BUDGET = "PPL_VAE_NOTEBOOK_BUDGET"
MOST_BYTES = 700_000
FORGET = """
%reset -f
import os, sys, warnings
os.chdir({folder!r})
warnings.resetwarnings()
if "matplotlib" in sys.modules:
    sys.modules["matplotlib"].rcdefaults()
if "pyro" in sys.modules:
    sys.modules["pyro"].clear_param_store()
"""

every_notebook = pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)


def test_there_are_notebooks():
    assert NOTEBOOKS


def code_cells(notebook: Any) -> list[Any]:
    return [cell for cell in notebook.cells if cell.cell_type == "code" and cell.source.strip()]


def texts(output: Any) -> list[str]:
    """What an output shows as text; pictures are left out, whose base64 may spell anything."""
    data = output.get("data", {})
    shown = [value for kind, value in data.items() if kind.startswith("text/")]
    return [str(output.get("text", "")), *map(str, shown), *map(str, output.get("traceback", []))]


class ThisPython(AsyncKernelManager):
    """Kernels of the Python that runs the tests, whatever else is installed under the name python3."""

    @default("kernel_spec_manager")
    def _only_native(self) -> KernelSpecManager:
        return KernelSpecManager(kernel_dirs=[])


@pytest.fixture(scope="module")
def execute(tmp_path_factory):
    """Runs a notebook in a kernel of this very Python, and raises at the first error in a cell.

    One kernel runs them in turn, so that torch and Pyro are imported once; each finds it without names.
    """
    home = tmp_path_factory.mktemp("kernel")
    environment = {
        **os.environ,
        BUDGET: "small",
        "MPLBACKEND": "module://matplotlib_inline.backend_inline",
        "IPYTHONDIR": str(home / "ipython"),
        "TMPDIR": str(home),
    }
    client = NotebookClient(nbformat.v4.new_notebook(), kernel_manager_class=ThisPython, timeout=600)
    with client.setup_kernel(env=environment, cwd=str(home)):

        def run(notebook: Any, folder: Path) -> Any:
            first = nbformat.v4.new_code_cell(FORGET.format(folder=str(folder)))
            client.nb = nbformat.v4.new_notebook(
                cells=[first, *notebook.cells], metadata={**notebook.metadata, **client.nb.metadata}
            )
            client.reset_execution_trackers()
            for number, cell in enumerate(client.nb.cells):
                client.execute_cell(cell, number)
            return nbformat.v4.new_notebook(cells=client.nb.cells[1:])

        yield run


@every_notebook
def test_runs_on_a_small_budget(path, execute, tmp_path):
    notebook = execute(nbformat.read(path, as_version=4), tmp_path)
    pictures = [
        output
        for cell in code_cells(notebook)
        for output in cell.outputs
        if "image/png" in output.get("data", {})
    ]
    assert pictures


def test_runs_in_this_python_and_forgets_what_ran_before(execute, tmp_path):
    cells = [
        nbformat.v4.new_code_cell("import os, sys; print(sys.executable)"),
        nbformat.v4.new_code_cell("print(os.getcwd(), 'kept' in globals())\nkept = True"),
    ]
    for _ in range(2):
        first, second = execute(nbformat.v4.new_notebook(cells=cells), tmp_path).cells
        # not samefile: environments link to one Python
        assert first.outputs[0].text.strip() == sys.executable
        assert second.outputs[0].text.split() == [str(tmp_path.resolve()), "False"]


def test_an_error_in_a_cell_is_seen(execute, tmp_path):
    cell = nbformat.v4.new_code_cell(f"import os\nassert os.environ[{BUDGET!r}] == 'large'")
    with pytest.raises(Exception, match="AssertionError"):
        execute(nbformat.v4.new_notebook(cells=[cell]), tmp_path)


@every_notebook
def test_is_committed_with_outputs(path):
    assert path.stat().st_size < MOST_BYTES
    notebook = nbformat.read(path, as_version=4)
    nbformat.validate(notebook)
    cells = code_cells(notebook)
    assert [cell.execution_count for cell in cells] == list(range(1, len(cells) + 1)), "run it top to bottom"
    outputs = [output for cell in cells for output in cell.outputs]
    assert any("image/png" in output.get("data", {}) for output in outputs)
    assert not [output for output in outputs if output.output_type == "error"]
    assert not [output.text for output in outputs if output.get("name") == "stderr"]


@every_notebook
def test_outputs_name_no_path_and_no_progress_bar(path):
    notebook = nbformat.read(path, as_version=4)
    shown = [text for cell in code_cells(notebook) for output in cell.outputs for text in texts(output)]
    absolute = re.compile(r"(?<![\w.:/])/(?:[\w.+-]+/)+[\w.+-]+|\b[A-Z]:\\\\?\w+")
    assert not [match for text in shown for match in absolute.findall(text)]
    assert not [text for text in shown if "\r" in text or "it/s]" in text or "step/s" in text]


@every_notebook
def test_metadata_names_no_machine(path):
    metadata = nbformat.read(path, as_version=4).metadata
    assert metadata.kernelspec.name == "python3"
    assert set(metadata) <= {"kernelspec", "language_info"}
