"""HTML reports made from derivatives alone."""
