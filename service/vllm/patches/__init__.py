"""Repairs and replacements of vLLM, one file each; the first line says what vLLM does otherwise.

`UPSTREAM` names vLLM's own issue, and `UNTIL` the first release that needs a repair no longer.
tests/engine/test_patches.py has a test for each that fails when vLLM no longer needs it.
"""
