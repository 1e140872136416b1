"""Parts of the service that can be left out: each is a folder, and is off without a trace."""
