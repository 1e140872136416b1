"""The HTTP surface; the only package that imports FastAPI, with the composition root."""
