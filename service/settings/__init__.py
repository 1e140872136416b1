"""Settings: one frozen tree, its reading from a file and the environment, its printing."""
