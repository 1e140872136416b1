"""The contract that every engine keeps, and the values that pass between it and the service."""
