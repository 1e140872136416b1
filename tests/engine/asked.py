"""Questions to the default model that have the same answers on every processor.

Each token of an answer, and each label, leads the next best by a nat, as test_margins asks.
"""

from typing import Any

CAPITAL = [{"role": "user", "content": "What is the name of the capital city of Japan?"}]
TOKYO = "The capital city of Japan is Tokyo."

SENTIMENT: dict[str, Any] = {
    "instruction": "What is the sentiment of the text?",
    "candidate_labels": ["positive", "negative"],
}
POSITIVE = ("The staff were friendly and kind.", "Great product, works perfectly.")
NEGATIVE = ("What a terrible film!", "I hated every minute of this film.")

CLEAR = 0.73
"""The score of one of two labels that leads by a nat, 1 / (1 + exp(-1))."""
