"""Fits on held-out lines: the chance that an answer is right, label sets, guards, drift."""
