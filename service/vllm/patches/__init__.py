"""Patches of vLLM, one file each; the first line of a file says what unpatched vLLM does.

`UPSTREAM` names vLLM's own issue, and `UNTIL` the first release that no longer needs the patch.
tests/engine/test_patches.py has a test for each that fails when vLLM no longer needs it.
"""
