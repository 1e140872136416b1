"""OpenAI's Decisions: closed questions about an input, each answered by probabilities."""
