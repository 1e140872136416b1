"""Good and bad successors of the committed adapters, and what becomes of them: `make canaries`."""
