"""OpenAI's and Anthropic's APIs: bodies of requests, and answers in each API's form."""
