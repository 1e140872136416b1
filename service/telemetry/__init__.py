"""Telemetry: series, request lines and traces."""
