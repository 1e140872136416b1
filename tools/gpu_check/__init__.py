"""The first check of this service on a GPU, in about ten minutes: `make gpu-check`."""
