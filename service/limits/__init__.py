"""Caps on a request's fields, checked before the engine sees the request."""
