"""Who may use what, how much of it, and how it is kept apart from others."""
