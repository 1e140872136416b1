"""The grammars of rewritten schemas, over a vocabulary of single characters."""

import json
import random
from functools import cache
from typing import Any

import numpy
import xgrammar
from jsonschema_rs import Draft202012Validator

from service.vllm.grammar_text import Written, write_schema

TOKENS = xgrammar.TokenizerInfo(
    [chr(number) for number in range(32, 127)] + ["é", "😀", "\n", "</s>"]
)
_STEPS = 2000
_CLOSING = frozenset(b'"}],:')


@cache
def _compiler() -> xgrammar.GrammarCompiler:
    return xgrammar.GrammarCompiler(TOKENS, max_threads=1, cache_enabled=False)


def written(schema: Any) -> Written:
    """The schema as the engine gets it."""
    return write_schema(schema, any_whitespace=False)


def compiled(schema: Any) -> Any:
    """The grammar of a schema."""
    text = written(schema)
    if text.kind == "json":
        return _compiler().compile_json_schema(
            text.text, any_whitespace=False, separators=(",", ":")
        )
    return _compiler().compile_grammar(text.text)


def accepts(grammar: Any, value: Any) -> bool:
    """True if an answer may be this value."""
    text = json.dumps(value, separators=(",", ":"), ensure_ascii=False)
    matcher = xgrammar.GrammarMatcher(grammar, terminate_without_stop_token=True)
    return bool(matcher.accept_string(text) and matcher.is_completed())


def sample(grammar: Any, rng: random.Random) -> str | None:
    """A random answer of a grammar; None if it did not end."""
    matcher = xgrammar.GrammarMatcher(grammar, terminate_without_stop_token=True)
    mask = xgrammar.allocate_token_bitmask(1, TOKENS.vocab_size)
    bits = mask.numpy().view(numpy.uint8)[0]
    answer = b""
    for _ in range(_STEPS):
        if matcher.is_terminated() or (matcher.is_completed() and rng.random() < 0.5):
            return answer.decode()
        matcher.fill_next_token_bitmask(mask)
        allowed = numpy.unpackbits(bits, bitorder="little")[: TOKENS.vocab_size]
        choices = numpy.flatnonzero(allowed)
        if not len(choices):
            return answer.decode() if matcher.is_completed() else None
        ends = [each for each in choices if TOKENS.decoded_vocab[each][0] in _CLOSING]
        token = int(rng.choice(ends if ends and rng.random() < 0.4 else list(choices)))
        assert matcher.accept_token(token)
        answer += TOKENS.decoded_vocab[token]
    return None


def parse(answer: str) -> Any:
    """The value of an answer; a number that overflows, as 1e999, is the largest one."""
    return json.loads(answer, parse_float=lambda text: max(-1e308, min(1e308, float(text))))


def is_valid(schema: Any, value: Any) -> bool:
    """True if a value is valid by a schema, formats included."""
    return Draft202012Validator(schema, validate_formats=True).is_valid(value)
