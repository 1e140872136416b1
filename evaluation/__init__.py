"""Evaluation of a running service (extra `evaluation`): suites with thresholds, and calibration."""
