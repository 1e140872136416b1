"""Evaluation of a running service (extra `evaluation`): suites judged by bars, calibration."""
