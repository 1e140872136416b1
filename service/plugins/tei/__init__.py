"""Routes of text-embeddings-inference, answered by encoders that have its names."""
