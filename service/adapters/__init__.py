"""An adapter on disk: from its address to a verified folder, and back into a registry."""
