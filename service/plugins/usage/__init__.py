"""Usage: requests and tokens of each tenant by the hour, kept in SQLite or Redis."""
