"""Small parts without a subject of their own: files, hosts, stores, messages, coroutines."""
