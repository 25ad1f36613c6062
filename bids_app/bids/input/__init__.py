"""Files of the dataset and of the user to frozen scans of a participant."""
