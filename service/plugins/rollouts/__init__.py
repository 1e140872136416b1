"""Releases: a new version of an adapter goes live by steps and a judge, or not at all."""
