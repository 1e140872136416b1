"""The command line: serving, adapters, fine-tuning, keys."""
