"""Two-layer random BERT models with a built tokenizer, for tests of encoders with heads."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

_WORDS = """the a of and in is it not was very good bad great poor film match goal vote rain sun
cat dog sits outside garden team wins law passes storm comes money bank river market rises falls
what who where when how capital japan tokyo paris france""".split()
_SPECIAL = ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]")


def build_tiny_encoder(
    target: Path, labels: Sequence[str], *, multi_label: bool = False, spread: float = 0.4
) -> None:
    """Save a BertForSequenceClassification with these labels, one for scores of pairs.

    Words that the vocabulary lacks are read letter by letter. The weights are spread widely, so
    that different inputs get clearly different values; training needs a smaller `spread`.
    """
    import torch
    from transformers import BertConfig, BertForSequenceClassification

    tokenizer = _tokenizer()
    config = BertConfig(
        vocab_size=len(tokenizer),
        hidden_size=64,
        num_hidden_layers=2,
        num_attention_heads=2,
        intermediate_size=128,
        max_position_embeddings=64,
        initializer_range=spread,
        id2label=dict(enumerate(labels)),
        label2id={label: index for index, label in enumerate(labels)},
        problem_type="multi_label_classification" if multi_label else None,
    )
    torch.manual_seed(0)
    BertForSequenceClassification(config).eval().save_pretrained(target)
    tokenizer.save_pretrained(target)


def _tokenizer() -> Any:
    from tokenizers import Tokenizer
    from tokenizers.models import WordPiece
    from tokenizers.normalizers import BertNormalizer
    from tokenizers.pre_tokenizers import BertPreTokenizer
    from tokenizers.processors import TemplateProcessing
    from transformers import PreTrainedTokenizerFast

    letters = "abcdefghijklmnopqrstuvwxyz0123456789.,?!'"
    pieces = [*_SPECIAL, *_WORDS, *letters, *(f"##{letter}" for letter in letters)]
    vocabulary = {piece: place for place, piece in enumerate(dict.fromkeys(pieces))}
    tokenizer = Tokenizer(WordPiece(vocabulary, unk_token="[UNK]"))
    tokenizer.normalizer = BertNormalizer(lowercase=True)
    tokenizer.pre_tokenizer = BertPreTokenizer()
    tokenizer.post_processor = TemplateProcessing(
        single="[CLS] $A [SEP]",
        pair="[CLS] $A [SEP] $B:1 [SEP]:1",
        special_tokens=[(name, vocabulary[name]) for name in ("[CLS]", "[SEP]")],
    )
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        model_input_names=["input_ids", "token_type_ids", "attention_mask"],
        model_max_length=64,
        **dict(
            zip(
                ("pad_token", "unk_token", "cls_token", "sep_token", "mask_token"),
                _SPECIAL,
                strict=True,
            )
        ),
    )
