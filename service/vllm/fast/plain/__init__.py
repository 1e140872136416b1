"""Plain chats and completions, answered without vLLM's handlers, byte for byte as by them."""
