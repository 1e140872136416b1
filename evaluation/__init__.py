"""Evaluation of a running service: suites of tasks, judged against stated bars."""
