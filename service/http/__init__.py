"""The HTTP server: connections, the life of a request, who sent it, bodies, streams, both ports."""
