"""Encoders on vLLM's pooling runner: start, requests, and the engine with its roles."""
