"""Repairs of vLLM's CPU build: adapter operators, prompts, seeds."""
