"""Batches: files of requests, kept and answered as background work."""
