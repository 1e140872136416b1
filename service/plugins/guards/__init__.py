"""Guards: classification models that judge the texts of requests."""
