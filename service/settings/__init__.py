"""Settings: their tree, how a file and the environment become one, and how it is printed."""
