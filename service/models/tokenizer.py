"""A model's tokenizer: text to token ids and back; no text becomes a special token."""

import re
import secrets
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from copy import deepcopy
from functools import lru_cache, partial
from typing import Any

from tokenizers import AddedToken, Tokenizer

TextEncoder = Callable[[str], list[int]]

TextDecoder = Callable[[Sequence[int]], str]

LONG = 4_096
"""Characters or tokens from which a pool of threads is worthwhile: some milliseconds of work."""


def text_encoder(tokenizer: Any, *, special_is_text: bool) -> TextEncoder:
    """An encoder that adds no special token; with `special_is_text` text never becomes one.

    It works on a copy, because the handling of special tokens is mutable state of a tokenizer,
    which the renderer's threads use at the same time. A fast tokenizer is called directly:
    transformers encodes even one text as a batch, for which the tokenizers library wakes a thread
    pool, and on a busy machine that takes longer than the encoding.
    """
    backend = getattr(tokenizer, "backend_tokenizer", None)
    if isinstance(backend, Tokenizer):
        fast = fast_copy(tokenizer, special_is_text=special_is_text)
        return lambda text: fast_ids(fast, text)
    slow = deepcopy(tokenizer)
    return lambda text: list(
        slow.encode(text, add_special_tokens=False, split_special_tokens=special_is_text)
    )


def text_decoder(tokenizer: Any) -> TextDecoder:
    """A decoder that shows special tokens; for more than LONG tokens it releases the GIL."""
    backend = getattr(tokenizer, "backend_tokenizer", None)
    if not isinstance(backend, Tokenizer) or tokenizer.clean_up_tokenization_spaces:
        return lambda ids: str(tokenizer.decode(list(ids)))
    fast = deepcopy(backend)

    def decode(ids: Sequence[int]) -> str:
        if len(ids) < LONG:
            return fast.decode(list(ids), skip_special_tokens=False)
        (text,) = fast.decode_batch([list(ids)], skip_special_tokens=False)
        return text

    return decode


def fast_copy(tokenizer: Any, *, special_is_text: bool) -> Tokenizer:
    """A copy of the library's tokenizer in a fast one of transformers; it cuts and pads nothing."""
    fast: Tokenizer = deepcopy(tokenizer.backend_tokenizer)
    fast.encode_special_tokens = special_is_text
    fast.no_truncation()
    fast.no_padding()
    return fast


def fast_ids(fast: Tokenizer, text: str, *, add_special_tokens: bool = False) -> list[int]:
    """The ids of a text's tokens.

    Encodes a batch of one text, which stays on this thread, releases the GIL, and can leave out the
    tokens' offsets in the text.
    """
    (encoding,) = fast.encode_batch_fast([text], add_special_tokens=add_special_tokens)
    return list(encoding.ids)


_FIRST_MASK = 0xDC00
"""First of the lone surrogates that mask characters while a template runs: tokenizers take none."""
_TEMPLATES_OWN = ("chat_template", "tokenize", "return_dict")
_NAMES = ("user", "assistant", "user")
_CUT = re.compile(
    r"(?:split|partition|replace|removeprefix|removesuffix)\(\s*"
    r"(?:'((?:[^'\\]|\\.)*)'|\"((?:[^\"\\]|\\.)*)\"|([A-Za-z_]\w*))"
)
"""A call by which a template splits or strips texts, with its argument: a text or a variable."""


class ChatText(str):
    """The text of a chat, with its own function to tokenise it.

    vLLM may truncate a far too long text before tokenisation. This text is tokenised whole, and
    then truncated by tokens.
    """

    ids: Callable[[bool], list[int]]
    """Returns the tokens; True adds those that the tokenizer puts around a text."""

    def __new__(cls, text: str, ids: Callable[[bool], list[int]]) -> "ChatText":
        made = super().__new__(cls, text)
        made.ids = ids
        return made

    def __getitem__(self, key: Any) -> str:
        return self if isinstance(key, slice) else super().__getitem__(key)


class Spellings:
    """Finds where texts of a chat spell a special token, or may do so once they are joined.

    A template may join texts, strip them, and split them at a text of its own. So this class also
    finds the beginning of a spelling at the end of a text, or before a text that the template cuts
    out. Masking the first character breaks a spelling.
    """

    def __init__(self, spellings: Collection[str]) -> None:
        tree: dict[str, Any] = {}
        for spelling in spellings:
            place = tree
            for character in spelling:
                place = place.setdefault(character, {})
            place[""] = {}
        firsts = sorted(tree)
        self._begin = re.compile(
            "|".join(f"{re.escape(first)}(?={_pattern(tree[first])})" for first in firsts)
            or r"(?!)"
        )
        self._whole = re.compile(f"({_pattern(tree) or '(?!)'})")
        self._firsts = firsts
        self._longest = max(map(len, spellings), default=0)
        self._prefixes = {each[:size] for each in spellings for size in range(1, len(each))}
        self._masks = {first: chr(_FIRST_MASK + place) for place, first in enumerate(firsts)}
        self._unmasked = str.maketrans({mask: first for first, mask in self._masks.items()})

    def in_text(self, text: str, cut: re.Pattern[str] | None) -> set[int]:
        """The indices in a text at which a spelling, or the beginning of one, begins.

        Texts that are a single identifier are skipped, such as the names of roles that templates
        compare.
        """
        if text.isidentifier():
            return set()
        found = {match.start() for match in self._begin.finditer(text)}
        ends = [len(text.rstrip())]
        if cut is not None:
            ends += [match.start() for match in cut.finditer(text)]
        for end in ends:
            least = max(0, end - self._longest + 1)
            for first in self._firsts:
                place = text.find(first, least, end)
                while place >= 0:
                    if text[place:end] in self._prefixes:
                        found.add(place)
                    place = text.find(first, place + 1, end)
        return found

    def masked(self, value: Any, cut: re.Pattern[str] | None) -> Any:
        """A copy of a value in which these characters of texts and keys are masked."""
        match value:
            case str():
                characters = list(value)
                for place in self.in_text(value, cut):
                    characters[place] = self._masks[characters[place]]
                return "".join(characters)
            case dict():
                return {
                    self.masked(key, cut): self.masked(each, cut) for key, each in value.items()
                }
            case list() | tuple():
                return [self.masked(each, cut) for each in value]
        return value

    def unmasked(self, text: str) -> str:
        """The text, with the masks replaced by the original characters."""
        return text.translate(self._unmasked)

    def parts(self, text: str) -> list[str]:
        """Split a text at special tokens: every second part is the spelling of one."""
        return self._whole.split(text)


class ChatTexts:
    """Applies a tokenizer's chat template to texts that never become special tokens.

    Special tokens are those that the tokenizer marks as special, and other added tokens that the
    template writes around messages. `variables` are the operator's variables for the template; in
    them special tokens are recognised. `templates` are further templates that conversations may
    use. If `readable` is false, a chat that spells a special token is refused.
    """

    def __init__(
        self,
        tokenizer: Any,
        variables: Mapping[str, Any],
        templates: Collection[str] = (),
        *,
        readable: bool = True,
    ) -> None:
        self._apply = tokenizer.apply_chat_template
        self._variables = variables
        self._template = _source(tokenizer)
        special = self._special_tokens(tokenizer, templates)
        flags = [tokenizer.added_tokens_decoder[number] for number in special.values()]
        self.readable = readable and not any(token.single_word for token in flags)
        self._spellings = Spellings(special)
        self._always = False
        if self.readable:
            self._library = fast_copy(tokenizer, special_is_text=True)
            self._library.add_special_tokens(list(special))
            # Words that no caller knows stand for the template's tokens beside text.
            secret = secrets.token_hex(16)
            self._words = {
                each: f"\ue000{secret}{place}\ue001" for place, each in enumerate(special)
            }
            self._library.add_tokens(
                [
                    AddedToken(
                        self._words[token.content],
                        lstrip=token.lstrip,
                        rstrip=token.rstrip,
                        normalized=token.normalized,
                    )
                    for token in flags
                ]
            )
            self._real = {
                self._library.token_to_id(word): special[each] for each, word in self._words.items()
            }
            normalizes = self._library.normalizer is not None
            self._always = normalizes and any(token.normalized for token in flags)

    def _special_tokens(self, tokenizer: Any, templates: Collection[str]) -> dict[str, int]:
        framing = "".join(self._frame(each) for each in (None, *templates))
        cuts = {cut for each in (self._template, *templates) for cut in _cuts(each)}
        named = set(tokenizer.all_special_tokens)
        return {
            token.content: number
            for number, token in tokenizer.added_tokens_decoder.items()
            if token.content
            and (
                token.special
                or token.content in named
                or (token.content in framing and token.content not in cuts)
            )
        }

    def encode(self, text: str) -> list[int]:
        """The tokens of a text in which special tokens are not recognised."""
        return fast_ids(self._library, text)

    def apply(self, *arguments: Any, **options: Any) -> Any:
        """The chat as a text: a `ChatText` if its texts spell a special token.

        Takes the arguments of `apply_chat_template`, and returns token ids if that would. Raises
        ValueError for a chat that is not `readable`.
        """
        texts = {
            name: value
            for name, value in options.items()
            if name not in _TEMPLATES_OWN
            and not (name in self._variables and self._variables[name] == value)
        }
        cut = _cutting(options.get("chat_template") or self._template)
        given = (*arguments, *texts.values())
        spelled = any(self._spellings.in_text(text, cut) for text in _strings(given))
        if not (spelled or self._always):
            return self._apply(*arguments, **options)
        if not self.readable:
            raise ValueError(
                "a text spells a special token, which this model's tokenizer cannot read as text"
            )
        arguments = self._spellings.masked(arguments, cut)
        masked = {**options, **self._spellings.masked(texts, cut), "tokenize": False}
        try:
            text = self._apply(*arguments, **masked)
        except Exception as error:  # a template may repeat texts in its refusal
            error.args = tuple(
                self._spellings.unmasked(each) if isinstance(each, str) else each
                for each in error.args
            )
            raise
        made = ChatText(self._spellings.unmasked(text), partial(self._ids, text))
        return made.ids(False) if options.get("tokenize", True) else made

    def _ids(self, masked: str, add_special_tokens: bool) -> list[int]:
        parts = self._spellings.parts(masked)
        parts[1::2] = [self._words[each] for each in parts[1::2]]
        text = self._spellings.unmasked("".join(parts))
        ids = fast_ids(self._library, text, add_special_tokens=add_special_tokens)
        return [self._real.get(each, each) for each in ids]

    def _frame(self, template: str | None) -> str:
        """A template's text around a short conversation; empty for one that has none."""
        options = {**self._variables, "tokenize": False, "chat_template": template}
        chat = [{"role": name, "content": "-"} for name in _NAMES]
        for conversation in ([{"role": "system", "content": "-"}, *chat], chat):
            try:
                return str(self._apply(conversation, **options))
            except Exception:
                continue
        return ""


def _pattern(tree: Mapping[str, Any]) -> str:
    """A regular expression for the words of a trie of characters, the longest first."""
    ways = [re.escape(first) + _pattern(rest) for first, rest in tree.items() if first]
    ends = "" in tree
    joined = "|".join(ways)
    if ways and (ends or len(ways) > 1):
        joined = f"(?:{joined})"
    return f"{joined}?" if ways and ends else joined


def _source(tokenizer: Any) -> str:
    """The chat template of a tokenizer; if it has several, all of them in one text."""
    template = getattr(tokenizer, "chat_template", None) or ""
    return template if isinstance(template, str) else "\n".join(template.values())


@lru_cache(16)
def _cuts(template: str) -> frozenset[str]:
    """The texts at which a template splits other texts, or which it strips from them."""
    found = set[str]()
    for single, double, name in _CUT.findall(template):
        values = [single or double]
        if name:
            values = re.findall(rf"\bset\s+{name}\s*=\s*['\"]([^'\"]*)['\"]", template)
        found.update(value.replace("\\n", "\n") for value in values)
    return frozenset(found - {""})


@lru_cache(16)
def _cutting(template: str) -> re.Pattern[str] | None:
    """A regular expression for the texts of `_cuts` and the space before them; None without any."""
    cuts = "|".join(map(re.escape, sorted(_cuts(template))))
    return re.compile(rf"(?<!\s)\s*(?:{cuts})") if cuts else None


def _strings(value: Any) -> Iterator[str]:
    match value:
        case str():
            yield value
        case dict():
            for key, each in value.items():
                yield from _strings(key)
                yield from _strings(each)
        case list() | tuple():
            for each in value:
                yield from _strings(each)
