"""Text generation: the stream of an answer, and how sure the model was of it."""
