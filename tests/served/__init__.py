"""The service as a process of its own, on small models: for tests and for long programs."""
