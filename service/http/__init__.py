"""The HTTP server: both ports, connections, authentication, bodies, streams, request lifecycle."""
