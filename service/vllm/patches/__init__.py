"""Patches of vLLM, one file each; the first line of a file says what unpatched vLLM does.

`UPSTREAM` names vLLM's own issue, and `UNTIL` the first release that no longer needs the patch. For
each patch tests/engine/test_patches.py has a test that fails when vLLM no longer needs it.
"""
