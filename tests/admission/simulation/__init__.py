"""A seeded simulator of the scheduler: every failure replays from its seed."""
