"""Engines behind one protocol; the only package that imports vLLM."""
