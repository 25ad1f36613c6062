"""Arterial spin labeling to blood flow and arrival time."""
