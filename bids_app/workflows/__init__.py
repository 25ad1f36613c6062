"""Builders of the graph: the only place where order is written."""
