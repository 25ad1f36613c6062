"""Names, sidecars and manifest of what is written."""
