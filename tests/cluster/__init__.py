"""The chart on a real Kubernetes API server, without Docker: `make cluster-test`."""
