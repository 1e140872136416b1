"""Small tokenizers of the families that language models use, trained here on a few lines."""

from functools import cache

from tokenizers import Regex, Tokenizer, models, normalizers, pre_tokenizers, trainers

from service.classification.frame import Encode

_CORPUS = [
    "Review: the film was good, a very good film.\nSentiment: positive\n",
    "Review: the film was bad; I'd never watch it again!\nSentiment: negative\n",
    "New York, New Zealand and Newcastle... turn on the light -> turn_on, turn_off.\n\n",
    'très bon, café, größe, 中文 情感, 😀😀 👍🏽, 100 200 2024, "quoted" (aside)\n',
    "if x == 1:\n    return [a, b]\n\tpass  # comment.\n",
] * 3
_SPECIAL = ["<|im_start|>", "<|im_end|>"]
# The splitting rule of GPT-4 and Llama 3: punctuation takes the newlines after it.
_NEWLINE_WITH_PUNCTUATION = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}"
    r"| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)


@cache
def tokenizer(family: str) -> Tokenizer:
    """`gpt2`, `llama3` (both byte-level) or `sentencepiece` (spaces become part of words)."""
    bpe = Tokenizer(models.BPE(unk_token="<unk>", byte_fallback=True))
    special = _SPECIAL
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    if family == "gpt2":
        bpe.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    elif family == "llama3":
        split = pre_tokenizers.Split(Regex(_NEWLINE_WITH_PUNCTUATION), "isolated")
        bytes_only = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
        bpe.pre_tokenizer = pre_tokenizers.Sequence([split, bytes_only])
    else:
        bpe.normalizer = normalizers.Sequence(
            [normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")]
        )
        bpe.pre_tokenizer = pre_tokenizers.Sequence(
            [pre_tokenizers.Split("▁", "merged_with_next"), pre_tokenizers.Split("\n", "isolated")]
        )
        special = [*_SPECIAL, "<unk>", *(f"<0x{byte:02X}>" for byte in range(256))]
        alphabet = sorted({character for line in _CORPUS for character in line})
    bpe.train_from_iterator(
        _CORPUS,
        trainers.BpeTrainer(
            vocab_size=len(special) + 500,
            special_tokens=special,
            initial_alphabet=alphabet,
            show_progress=False,
        ),
    )
    return bpe


def encoder(family: str) -> Encode:
    """The family's `encode`, without special tokens of its own."""

    def encode(text: str) -> list[int]:
        ids: list[int] = tokenizer(family).encode(text, add_special_tokens=False).ids
        return ids

    return encode
