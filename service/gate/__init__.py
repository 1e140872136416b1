"""The gate in front of the engine: every engine request takes a permit here."""
