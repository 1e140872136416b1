"""Optional parts of the service: each is a folder, and has an effect only if it is configured."""
