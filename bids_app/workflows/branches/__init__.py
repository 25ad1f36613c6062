"""The branches of the graph of a participant, one module each."""
