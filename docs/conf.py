"""How the site is built: `make docs`."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path

HERE = Path(__file__).parent
sys.path[:0] = [str(HERE), str(HERE.parent)]

import ppl_vae  # noqa: E402

project = "ppl_vae"
version = release = ppl_vae.__version__
copyright = "the authors of ppl_vae, Apache License 2.0"
extensions = [
    "myst_nb",
    "sphinx.ext.autodoc",
    "sphinx.ext.autosummary",
    "sphinx.ext.mathjax",
    "sphinx.ext.napoleon",
    "docstrings",
]
# The source is the whole tree, so that a link between pages is the same here and in the repository.
root_doc = "docs/index"
include_patterns = ["CONTRIBUTING.md", "docs/**", "notebooks/*.ipynb"]
exclude_patterns = [".*", "build", "dist", "runs", "ppl_vae", "tests", "benchmarks"]
nitpicky = True

# Single backticks are code in our docstrings, and a link where they hold the name of something public.
default_role = "py:obj"
add_module_names = False
autodoc_default_options = {"members": True, "no-value": True}
autodoc_member_order = "bysource"
autodoc_preserve_defaults = True
autodoc_typehints_format = "short"
python_use_unqualified_type_names = True
maximum_signature_line_length = 88
autosummary_generate = False
napoleon_numpy_docstring = False
napoleon_use_ivar = True
napoleon_use_rtype = False

myst_enable_extensions = ["amsmath", "dollarmath"]
myst_heading_anchors = 3
nb_execution_mode = "off"  # the outputs are stored in the notebooks, which the tests run
nb_merge_streams = True

# the one file of MathJax that draws formulas without fonts and without a network
_mathjax = importlib.util.find_spec("sphinx-mathjax-offline")
assert _mathjax is not None
assert _mathjax.submodule_search_locations is not None
mathjax_path = "tex-svg.js"
html_static_path = [
    "_static",
    str(Path(_mathjax.submodule_search_locations[0]) / "static/mathjax" / mathjax_path),
]
html_css_files = ["site.css"]
html_extra_path = ["_extra"]
html_theme = "furo"
html_title = "ppl_vae"
html_copy_source = False
