"""Regular expressions: how many symbols they expand to, and whether they match in one way only.

Nested repetitions may let an expression match the same text in many ways. xgrammar follows all of
these before every token, in the process that serves everyone: after ten letters
`([a-z]{1,30} ?){1,20}` takes 0.5 s a token, after a hundred `(([a-z]*)*)*` takes 0.15 s. If a
separator ends each round, as in `(\\w+,)*`, there is only one way.
"""

import re
import string
import warnings
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from re import _constants as opcodes
from re import _parser as regex_parser
from typing import Any

from service.common.error_messages import quote
from service.errors import InvalidRequest, UnsupportedFeature
from service.limits.caps import check_size
from service.settings.limits import LimitSettings

MAX_EXPANSION = 4096
"""Symbols that one regex, or one repetition of a schema, may expand to when compiled."""


def check_regex(pattern: str, limits: LimitSettings, param: str) -> None:
    """Refuse a regular expression as `check_pattern`, or one that matches in many ways."""
    if check_pattern(pattern, limits, param).ambiguous:
        raise UnsupportedFeature(
            f"{param}: a repetition of something of varying length needs a character that ends "
            f"each round, such as the comma of (\\w+,)*, got {quote(pattern)}",
            param=param,
        )


def check_pattern(pattern: str, limits: LimitSettings, param: str) -> "Facts":
    """Refuse an expression that does not parse, is too long or expands too far."""
    check_size(pattern, limits.regex_bytes, param)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # about the caller's pattern, not our code
            whole = _sequence(regex_parser.parse(pattern))
    except (re.error, OverflowError) as error:
        raise InvalidRequest(
            f"{param}: not a valid regular expression: {error}", param=param
        ) from None
    except RecursionError:
        raise InvalidRequest(f"{param}: nested too deeply", param=param) from None
    if whole.symbols > MAX_EXPANSION:
        raise InvalidRequest(
            f"{param}: may expand to at most {MAX_EXPANSION} symbols, got {whole.symbols}",
            param=param,
        )
    return whole


Characters = frozenset[str]

_OTHER = "\x80"
"""Stands for all characters beyond ASCII."""
_ALL = frozenset(map(chr, range(129)))
_NONE: Characters = frozenset()
# xgrammar's classes are those of ASCII.
_CATEGORIES: Mapping[Any, Characters] = {
    opcodes.CATEGORY_DIGIT: frozenset(string.digits),
    opcodes.CATEGORY_SPACE: frozenset(string.whitespace),
    opcodes.CATEGORY_WORD: frozenset(f"{string.ascii_letters}{string.digits}_"),
    opcodes.CATEGORY_NOT_DIGIT: _ALL - set(string.digits),
    opcodes.CATEGORY_NOT_SPACE: _ALL - set(string.whitespace),
    opcodes.CATEGORY_NOT_WORD: _ALL - set(f"{string.ascii_letters}{string.digits}_"),
}


@dataclass(slots=True)
class Facts:
    """Facts of an expression.

    `symbols` is the number of its symbols, with counted repetitions written out. `any` are the
    characters that may occur, `loose` those whose number may vary. `must` is a list of sets: every
    text contains a character of each set. `ambiguous` is true if a text can be split into the
    rounds of a repetition in many ways. This is so if something of varying length is repeated
    without a separator. A separator is a character that every round contains and that is not in
    `loose`.
    """

    symbols: int = 0
    any: Characters = _NONE
    loose: Characters = _NONE
    must: tuple[Characters, ...] = ()
    ambiguous: bool = False


def _sequence(tree: Iterable[tuple[Any, Any]]) -> Facts:
    return _joined([_part(operation, argument) for operation, argument in tree])


def _joined(parts: list[Facts]) -> Facts:
    """Parts that all occur in a text."""
    return Facts(
        sum(part.symbols for part in parts),
        _NONE.union(*(part.any for part in parts)),
        _NONE.union(*(part.loose for part in parts)),
        tuple(each for part in parts for each in part.must),
        any(part.ambiguous for part in parts),
    )


def _part(operation: Any, argument: Any) -> Facts:
    if operation in (opcodes.MAX_REPEAT, opcodes.MIN_REPEAT, opcodes.POSSESSIVE_REPEAT):
        return _repeated(*argument)
    if operation is opcodes.SUBPATTERN:
        return _sequence(argument[-1])
    if operation is opcodes.ATOMIC_GROUP:
        return _sequence(argument)
    if operation in (opcodes.ASSERT, opcodes.ASSERT_NOT):
        return Facts(_sequence(argument[1]).symbols)
    if operation is opcodes.BRANCH:
        return _alternatives([_sequence(branch) for branch in argument[1]])
    if operation is opcodes.GROUPREF_EXISTS:
        return _alternatives([_sequence(branch or ()) for branch in argument[1:]])
    characters = _characters(operation, argument)
    return Facts(1, characters, _NONE, (characters,) if characters else ())


def _repeated(least: int, most: int, tree: Any) -> Facts:
    once = _sequence(tree)
    symbols = once.symbols * max(1, int(least if most is opcodes.MAXREPEAT else most))
    ends_round = any(map(once.loose.isdisjoint, once.must))
    ambiguous = once.ambiguous or (most > 1 and bool(once.loose) and not ends_round)
    if least == most:
        return Facts(symbols, once.any, once.loose, once.must if least else (), ambiguous)
    # The number of each of its characters varies: none of them ends a round around it.
    return Facts(symbols, once.any, once.any, (), ambiguous)


def _alternatives(branches: list[Facts]) -> Facts:
    whole = _joined(branches)
    ends = [_NONE.union(*filter(whole.loose.isdisjoint, branch.must)) for branch in branches]
    whole.must = (_NONE.union(*ends),) if all(ends) else ()
    return whole


def _characters(operation: Any, argument: Any) -> Characters:
    """The characters that one symbol allows; none for a place, such as the start."""
    if operation is opcodes.LITERAL:
        return frozenset(chr(min(argument, ord(_OTHER))))
    if operation is opcodes.NOT_LITERAL:
        return _ALL - {chr(argument)}
    if operation is opcodes.ANY:
        return _ALL
    if operation is opcodes.RANGE:
        first, last = argument
        return frozenset(map(chr, range(first, min(last, ord(_OTHER)) + 1))) or frozenset(_OTHER)
    if operation is opcodes.CATEGORY:
        return _CATEGORIES[argument]
    if operation is not opcodes.IN:
        return _NONE
    found = _NONE.union(*(_characters(*each) for each in argument))
    return _ALL - found | {_OTHER} if argument[0][0] is opcodes.NEGATE else found
