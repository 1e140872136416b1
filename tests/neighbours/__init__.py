"""Requests of every kind, answered alone and then all at once: no neighbour changes an answer."""
