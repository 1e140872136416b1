"""OpenAI's APIs: request bodies and answers, and what Anthropic's API shares with them."""
