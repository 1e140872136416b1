"""Settings: one frozen tree, read from a file and the environment, and printed."""
