"""Tests that run the real engine, once per session."""
