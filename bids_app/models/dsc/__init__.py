"""A bolus of contrast agent to blood volume."""
