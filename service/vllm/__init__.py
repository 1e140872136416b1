"""The engine on vLLM, which no other package imports: start, client, OpenAI handlers, repairs."""
