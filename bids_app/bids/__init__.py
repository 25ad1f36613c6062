"""The dataset: what is read, what is written, what a run decides."""
