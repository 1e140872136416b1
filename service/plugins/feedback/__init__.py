"""Feedback: what callers say of answers, and how often each version was right."""
