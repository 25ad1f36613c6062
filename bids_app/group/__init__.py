"""Inference over participants; reads derivatives only."""
