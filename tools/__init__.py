"""Generators of checked-in files, and long-running checks of the service; not part of it."""
