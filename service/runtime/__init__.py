"""A running service: its parts, its status, its drain and its watchdog."""
