"""One nipype interface per verb; a node opens files, a model makes numbers."""
