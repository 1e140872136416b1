"""A seeded simulator of the gate's core: every failure replays from its seed."""
