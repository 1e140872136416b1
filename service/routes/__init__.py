"""HTTP routes: each parses a body, calls the service and renders the answer."""
