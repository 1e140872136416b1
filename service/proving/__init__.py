"""Proof that an adapter answers on an engine as its manifest says."""
