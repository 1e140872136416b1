"""The service under a real Prometheus and Alertmanager, with faults: `make ops-test`."""
