"""Adapters: from an address to a verified folder, and the registry of those that are served."""
