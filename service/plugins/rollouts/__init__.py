"""Rollouts: a new version of an adapter replaces the old one step by step, or is rolled back."""
