"""Generators of files that are kept here, and long programs around the service; no part of it."""
