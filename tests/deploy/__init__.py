"""What is deployed beside the service."""
