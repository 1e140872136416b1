"""Adapters before the engine sees them: manifest, sources, verification, golden examples."""
