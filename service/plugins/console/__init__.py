"""The console: pages on which a person sees and tries the service in a browser."""
