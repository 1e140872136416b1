"""Classification: which of a set of labels the model would say, with probabilities."""
