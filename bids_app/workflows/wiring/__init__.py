"""One module per branch of the graph: decides what is built and connects it."""
