"""Production inference service: one base model on vLLM, many adapters, several tenants."""
