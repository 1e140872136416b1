"""Classification: exact, calibrated probabilities of labels from next-token log-probabilities.

The mathematics is pure: no engine, no I/O, no clock. Whoever classifies tokenises a label set once
(`Seam`, `read_labels`), builds its `LabelTrie` once, runs the trie's reads for every input, folds
the answers into log-probabilities, calibrates them and assembles the result.
"""
