"""What changes of BOLD and of metabolism say together: labels and shares."""
