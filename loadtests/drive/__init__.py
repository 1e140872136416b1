"""Locust: the processes that send. Import it only in a process that Locust has patched."""
