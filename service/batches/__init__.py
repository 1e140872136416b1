"""Batches: files of requests, kept in SQLite and answered as background work."""
