"""
Science as pure functions: arrays in SI units in, estimates with their variance out.

Every function raises `ModelInputError`, which names the argument, where shapes do not fit or a
number lies outside the range that its docstring states; ``Raises`` says only what else can end it.
"""
