"""Admission control: every engine request passes it; it bounds how many run and wait."""
