"""The APIs of OpenAI and Anthropic: bodies of requests, and answers in each one's form."""
