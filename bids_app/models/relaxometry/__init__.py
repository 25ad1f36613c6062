"""Decays of echoes to T2, T2* and R2', and what disturbs them."""
