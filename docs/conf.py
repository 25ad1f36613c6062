"""Configuration of the documentation; `make docs` builds it."""

import bids_app

project = 'oxybold'
author = 'oxybold developers'
copyright = author
version = release = bids_app.__version__

extensions = ['myst_parser', 'matplotlib.sphinxext.plot_directive']
source_suffix = {'.md': 'markdown'}
exclude_patterns = ['_build']
myst_enable_extensions = ['colon_fence', 'deflist', 'dollarmath']
myst_heading_anchors = 3
nitpicky = True

plot_include_source = True
plot_html_show_source_link = False
plot_html_show_formats = False
plot_formats = [('png', 110)]
plot_rcparams = {
    'figure.figsize': (6.4, 3.4),
    'figure.autolayout': True,
    'axes.grid': True,
    'axes.spines.top': False,
    'axes.spines.right': False,
    'grid.alpha': 0.3,
}

html_theme = 'furo'
html_title = f'oxybold {release}'
html_static_path = ['_static']
html_copy_source = False
html_show_sphinx = False
