"""Oxygen extraction fraction and metabolic rate."""
