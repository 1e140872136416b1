"""Classification: exact, calibrated probabilities of labels from next-token log-probabilities.

The mathematics is pure: no engine, no I/O, no clock. A classification tokenises its label set once
(`Seam`, `read_labels`), builds the `LabelTrie` once, runs the trie's reads for every input, folds
the answers into log-probabilities, calibrates these and assembles the result.
"""
