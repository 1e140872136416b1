"""From records to metrics, and from metrics to a verdict."""
