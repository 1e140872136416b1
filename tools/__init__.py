"""Generators of files that are kept here, and programs that tests run; no part of the service."""
