"""Generators of files kept in the repository, and what else developers run; no part of the service."""
