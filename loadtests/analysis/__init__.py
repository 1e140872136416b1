"""From records to numbers, and from numbers to a verdict."""
