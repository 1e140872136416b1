"""Small shared utilities: files, hosts, stores, messages, coroutines."""
