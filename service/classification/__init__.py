"""Classification: exact, calibrated probabilities of labels from next-token log-probabilities.

The mathematics is pure: no engine, no I/O, no clock. A classification tokenises its label set once
(`TokenBoundary`, `read_labels`), builds the `LabelTrie` once, runs its reads for every input,
combines these into log-probabilities, calibrates them and assembles the result.
"""
