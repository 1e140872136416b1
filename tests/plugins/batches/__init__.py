"""Tests of batches without HTTP."""
