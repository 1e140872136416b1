"""Training, measuring and packing of adapters and heads (extra `training`); it never serves."""
