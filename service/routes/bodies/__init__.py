"""Bodies of the native routes."""
