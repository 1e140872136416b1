"""Memory that a base and its adapters need, compared with the machine before the engine starts."""
