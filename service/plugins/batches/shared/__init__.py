"""Records of batches in a Redis or Valkey, for replicas on several machines."""
