"""Commands that measure models and fit calibrations."""
