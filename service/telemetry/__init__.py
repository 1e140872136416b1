"""Telemetry: Prometheus series, a log line for each request, traces."""
