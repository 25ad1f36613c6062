"""Sections of the report of the group."""
