"""A result for people and pipelines: console, JUnit, a page and Markdown."""
