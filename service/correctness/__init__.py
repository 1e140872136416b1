"""Fit of the probability that a generated answer is right, from held-out lines."""
