"""The fast way: the service's own states, sockets, texts and statistics, on vLLM's insides."""
