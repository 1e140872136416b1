"""Exact label probabilities over any label strings, and what is made of them.

The mathematics is pure: no engine, no I/O, no clock. Whoever classifies tokenises a label set once
(`Seam`, `read_labels`), builds its `LabelTrie` once, runs the trie's reads for every input, folds
the answers into log-probabilities, calibrates them and assembles the result.
"""
