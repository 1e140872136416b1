"""The console: web pages to try the service and to watch it."""
