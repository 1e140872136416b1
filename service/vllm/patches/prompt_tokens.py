"""vLLM recognises special tokens in user texts, and re-tokenises long messages every time."""

import re
from array import array
from collections.abc import Mapping, Sequence
from functools import lru_cache
from typing import Any

from tokenizers import Tokenizer
from tokenizers.decoders import ByteLevel
from transformers.tokenization_utils_tokenizers import TokenizersBackend

from service.context import current_context
from service.models.tokenizer import ChatText, fast_copy, fast_ids

USES = (
    "reads vllm.renderers.base:BaseRenderer._build_tokens_prompt",
    "replaces vllm.renderers.base:BaseRenderer._tokenize_prompt",
    "reads vllm.renderers.params:TokenizeParams.get_encode_kwargs",
)

_LEAST, _MOST = 512, 16_384
"""Characters of a part whose tokens are cached: fewer cost little, more would fill the memory."""
_LONGEST = 131_072
"""The longest prompt that is split, in characters: the search blocks all threads for up to 10
ms."""
_KEPT = 256
"""Parts whose tokens are cached, of at most 128 KB each: the text, and four bytes a token."""


class PromptTokens:
    """Tokenises a text as transformers does, at less cost.

    transformers encodes a batch of one, and copies token masks and types that nobody uses. Special
    tokens split a text into parts, such as the messages of a chat, which are encoded independently.
    So the tokens of long parts are cached: a system prompt, or the earlier messages of a
    conversation, is not encoded again. A tenant finds only the tokens of its
    own texts, because response times would reveal those of another.
    """

    def __init__(self, tokenizer: TokenizersBackend) -> None:
        self._library = library = fast_copy(tokenizer, special_is_text=False)
        self._adds = library.num_special_tokens_to_add(False) > 0
        self._special = _splitting(library)
        alternatives = map(re.escape, sorted(self._special, key=len, reverse=True))
        self._split = re.compile(f"({'|'.join(alternatives)})").split
        self._kept = lru_cache(_KEPT)(self._part)

    @classmethod
    def serve(cls, renderer: Any) -> "PromptTokens | None":
        """Make a renderer tokenise this way; None, without a change, if it cannot.

        Prompts that vLLM cuts or pads, or whose offsets it wants, stay with vLLM.
        """
        tokenizer, usual = renderer.get_tokenizer(), renderer._tokenize_prompt
        if not isinstance(tokenizer, TokenizersBackend) or tokenizer.split_special_tokens:
            return None
        if type(tokenizer)._encode_plus is not TokenizersBackend._encode_plus:
            return None
        tokens = cls(tokenizer)

        def tokenize(prompt: Any, params: Any) -> Any:
            text, adds = prompt["prompt"], params.add_special_tokens
            changed = params.truncate_prompt_tokens is not None or params.pad_prompt_tokens
            if isinstance(text, ChatText):
                ids: Sequence[int] = text.ids(adds)
                prompt = {**prompt, "prompt": str(text)}
                if changed:  # vLLM cuts and pads afterwards
                    return renderer._build_tokens_prompt(ids, prompt)
            elif changed or params.return_token_offsets:
                return usual(prompt, params)
            else:
                ids = tokens.of(text, add_special_tokens=adds)
            # As in vLLM, one token too many is enough to refuse the prompt.
            most = params.get_encode_kwargs()["max_length"]
            return renderer._build_tokens_prompt(ids[:most], prompt)

        renderer._tokenize_prompt = tokenize
        return tokens

    def encode(self, text: str) -> list[int]:
        """The tokens of a text, without special tokens added around it; nothing is cached."""
        return fast_ids(self._library, text)

    def of(self, text: str, *, add_special_tokens: bool) -> Sequence[int]:
        """The tokens of a prompt."""
        adds = add_special_tokens and self._adds
        if adds or not self._special or not _LEAST <= len(text) <= _LONGEST:
            return fast_ids(self._library, text, add_special_tokens=adds)
        tenant, found = current_context().tenant.name, array("I")
        for part in self._split(text):
            if (special := self._special.get(part)) is not None:
                found.append(special)
            elif _LEAST <= len(part) <= _MOST:
                found += self._kept(tenant, part)
            elif part:
                found.extend(fast_ids(self._library, part))
        return found

    def _part(self, tenant: str, part: str) -> "array[int]":
        return array("I", fast_ids(self._library, part))


def _splitting(library: Tokenizer) -> Mapping[str, int]:
    """The added tokens by their text, if a text can be split at them; else none.

    It can if the decoder is byte-level, nothing is put before the first part only, and each added
    token is matched exactly.
    """
    added = library.get_added_tokens_decoder()
    before = b"" if library.pre_tokenizer is None else library.pre_tokenizer.__getstate__()
    if not isinstance(library.decoder, ByteLevel) or b"Metaspace" in before:
        return {}
    for each in added.values():
        changed = each.normalized and library.normalizer is not None
        if each.lstrip or each.rstrip or each.single_word or changed:
            return {}
    return {each.content: number for number, each in added.items()}
