"""Science as pure functions: arrays in SI units in, estimates with their variance out."""
