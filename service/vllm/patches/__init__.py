"""Repairs and replacements of vLLM, one file each, and the versions that they apply to."""
