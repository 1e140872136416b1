"""Routes compatible with text-embeddings-inference (TEI), answered by configured encoders."""
