"""The contract that every engine keeps, and the text arithmetic that goes with it."""
