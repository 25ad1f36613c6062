"""What changes between two conditions, shared errors counted once."""
