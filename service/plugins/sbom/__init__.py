"""Bills of materials of the adapters and of the whole service."""
