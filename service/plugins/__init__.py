"""Optional parts of the service: each is a folder, and has no effect unless it is configured."""
