"""Real clients against the running service: SDKs, frameworks and generated clients."""
