"""Fits on held-out lines: confidence maps, label sets, guard thresholds, drift references."""
