"""Faults done to a real server under load, many times: `make test-faults`."""
