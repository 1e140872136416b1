"""JSON schemas rewritten into what the grammar compiler enforces."""
