"""Fine-tuned adapters."""
