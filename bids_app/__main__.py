"""``python -m bids_app``."""

from bids_app.cli.main import run

run()
