"""Engines of others behind plain functions; every heavy import is made inside the function."""
