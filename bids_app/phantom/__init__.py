"""
A digital study with known truth: anatomy, forward physics, raw BIDS, and the truth beside it.

It shares no code with the app: no formula, constant or file routine of the inverse stands here,
so that an error in one of the two shows.
"""
