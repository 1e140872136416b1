"""The HTTP surface: schemas, routes, middleware, server-sent events, errors, both servers."""
