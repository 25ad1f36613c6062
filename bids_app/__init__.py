"""oxybold: oxygen metabolism from quantitative BOLD and ASL, with its uncertainty."""

__version__ = '0.1.0'
