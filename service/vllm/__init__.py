"""The engine on vLLM, which no other package imports: start, clients, texts, chats, repairs."""
