"""The engine on vLLM; the only package that imports vLLM."""
