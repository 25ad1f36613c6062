"""Files of the dataset: inputs, typed acquisitions, outputs, provenance."""
