"""The gate before the engine: it bounds what runs and waits, and is the only way in."""
