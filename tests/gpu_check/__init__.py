"""The first check of this service on a GPU: `make gpu-check`."""
