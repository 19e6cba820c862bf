"""Documentation: the pages of this folder, and a page a family of losses that is made from the docstrings."""

from pathlib import Path

from lossbench import __version__
from lossbench.config import catalogue, families, schema
from lossbench.gallery import site

HERE = Path(__file__).resolve().parent
site.write(families.families(catalogue.losses([schema.CONFIGS])), HERE)

project = "lossbench"
release = __version__
extensions = ["myst_parser"]
exclude_patterns = ["_build"]
myst_heading_anchors = 3
myst_links_external_new_tab = False
html_theme = "furo"
html_title = "lossbench"
html_static_path = ["_static"]
html_css_files = ["gallery.css"]
html_copy_source = False
html_show_copyright = False
