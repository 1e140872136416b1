"""Tasks of encoders: embeddings of texts and scores of pairs, from the values of their passages."""
