"""The fast client: own request states, sockets and texts, on vLLM's internals."""
