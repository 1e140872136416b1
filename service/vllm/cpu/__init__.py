"""vLLM's CPU build: processes forked from one that has imported vLLM, and steps of few tokens."""
