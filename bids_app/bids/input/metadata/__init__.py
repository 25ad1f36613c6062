"""
Sidecars, tables and headers -> typed acquisitions in SI units.

The only package that reads a BIDS key. Nothing is converted silently: a time that can only be
milliseconds is refused with file, field, value and fix. Nothing is raised for a defect of the
data: it becomes a Problem, and all problems of a participant are collected.
"""
