"""Settings of Sphinx: `make docs`."""

from __future__ import annotations

import re
import sys
from pathlib import Path

HERE = Path(__file__).resolve().parent
sys.path[:0] = [str(HERE.parent), str(HERE), str(HERE / "_ext")]

from nasfast.utils.version import nasfast_version  # noqa: E402

project = "nasfast"
author = "nasfast authors"
project_copyright = "nasfast authors"
release = version = nasfast_version()

extensions = [
    "myst_parser",
    "sphinx.ext.autodoc",
    "sphinx.ext.autosummary",
    "sphinx.ext.napoleon",
    "sphinxcontrib.bibtex",
    "made",
]
templates_path = ["_templates"]
smartquotes = False  # two dashes are an option's, and stay two
exclude_patterns = ["_ext", "_templates"]
myst_enable_extensions = ["colon_fence", "deflist"]
myst_heading_anchors = 3
bibtex_bibfiles = ["references.bib"]
bibtex_default_style = "plain"

autosummary_generate = ["reference/modules.md"]
autosummary_imported_members = False
autodoc_member_order = "bysource"
autodoc_typehints = "signature"
autodoc_default_options = {"ignore-module-all": True}  # what a package hands on is described where it is defined
napoleon_numpy_docstring = False
napoleon_use_ivar = True  # an attribute that both a docstring and the code describe is described once
python_use_unqualified_type_names = True

html_theme = "furo"
html_title = "nasfast"


def _skip(app, what, name, obj, skip, options):
    """What scikit-learn adds to every estimator refers to pages of its own."""
    return True if re.fullmatch(r"set_\w+_request|get_metadata_routing", name) else None


def setup(app):
    app.connect("autodoc-skip-member", _skip)
