"""The fast client: own request states, sockets, texts and statistics, on vLLM's internals."""
