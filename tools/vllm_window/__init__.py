"""The service on each version of vLLM's window, with each client: `make test-vllm`."""
