"""The files and functions of the service that a request passes, for a reader of the code."""
