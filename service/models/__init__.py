"""Base models on disk: fetching, converting, identifying."""
