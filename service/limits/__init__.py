"""Caps on what a request may ask for, checked before the engine sees the request."""
