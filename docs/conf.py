"""How the documentation is built: ``make docs``. Nothing is fetched, neither to build nor to read it."""

import sys
from pathlib import Path

HERE = Path(__file__).parent
sys.path[:0] = [str(HERE / "_ext"), str(HERE.parent / "src")]

from filtersmith import __version__  # noqa: E402

project = "filtersmith"
author = "The filtersmith developers"
version = release = __version__
html_title = f"filtersmith {release}"
copyright = author

extensions = [
    "myst_parser",
    "sphinx.ext.autodoc",
    "sphinx.ext.napoleon",
    "sphinx.ext.viewcode",
    "filtersmith_site",
]
source_suffix = {".md": "markdown", ".myst": "markdown", ".rst": "restructuredtext"}  # .myst: made by the build
exclude_patterns = ["_build", "_ext", "_static"]
myst_heading_anchors = 4

default_role = "py:obj"  # a link where the name is documented, else code
nitpick_ignore_regex = [
    ("py:obj", ".*"),
    ("py:.*", r"(?!filtersmith\.).*"),  # of torch and others, whose pages are not here
]
add_module_names = False
autodoc_typehints_format = "short"
autodoc_member_order = "bysource"
autodoc_preserve_defaults = True
python_maximum_signature_line_length = 110
python_use_unqualified_type_names = True
napoleon_numpy_docstring = False
napoleon_use_ivar = True  # attributes are told of once, where properties have docstrings as well
napoleon_use_rtype = False
napoleon_custom_sections = [("Args and attributes", "params_style")]

html_theme = "furo"
html_static_path = ["_static"]
html_css_files = ["site.css"]
html_copy_source = False
html_domain_indices = False
html_show_search_summary = False  # it is fetched, which a browser refuses in a page that was opened as a file
html_show_sphinx = False
