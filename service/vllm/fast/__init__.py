"""The fast client: it keeps request states, sockets and texts itself, on vLLM's internals."""
