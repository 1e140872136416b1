"""Commands that measure models and fit what is measured."""
