"""A random classification head on the encoder that `bench` serves; no part of the image."""

from pathlib import Path

_LABELS = ("negative", "positive")


def write(encoder: Path, folder: Path) -> None:
    """Write the encoder with the head, and its tokenizer, into a folder."""
    import torch
    from transformers import AutoModelForSequenceClassification, AutoTokenizer
    from transformers.utils import logging

    # It would warn that the head is not trained.
    logging.set_verbosity_error()
    torch.manual_seed(0)
    model = AutoModelForSequenceClassification.from_pretrained(
        encoder,
        id2label=dict(enumerate(_LABELS)),
        label2id={label: place for place, label in enumerate(_LABELS)},
    )
    model.save_pretrained(folder)
    AutoTokenizer.from_pretrained(encoder).save_pretrained(folder)
