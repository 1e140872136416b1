"""The engine on vLLM: start, clients, texts, chats, patches. No other package imports vLLM."""
