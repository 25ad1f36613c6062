"""Configuration of the documentation; `make docs` builds it."""

import bids_app

project = 'oxybold'
author = 'oxybold developers'
copyright = author
version = release = bids_app.__version__

extensions = ['myst_parser']
source_suffix = {'.md': 'markdown'}
exclude_patterns = ['_build']
myst_enable_extensions = ['colon_fence', 'deflist', 'dollarmath']
myst_heading_anchors = 3
nitpicky = True

html_theme = 'furo'
html_title = f'oxybold {release}'
html_static_path = ['_static']
html_copy_source = False
html_show_sphinx = False
