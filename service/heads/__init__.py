"""Trained heads of encoders: their manifest, read and checked before an engine starts."""
