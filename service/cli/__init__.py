"""The command line: serving, adapters, fine-tuning, evaluation, keys."""
