"""Geometry of scans: movement within a series, alignment between scans, distortion."""
