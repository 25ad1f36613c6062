"""The BOLD series to a percent change."""
