"""Additions for vLLM's CPU build: a fork server that has imported vLLM, and a pacing scheduler."""
