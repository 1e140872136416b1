"""The remote client: vLLM's own servers, or a router before them, over HTTP."""
