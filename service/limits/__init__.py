"""Caps on the fields of a request, checked before it reaches the engine."""
