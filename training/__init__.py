"""Training, measuring and packing of adapters (extra `finetune`); no part of a running service."""
