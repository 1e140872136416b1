"""Repetitions within repetitions: regular expressions that match one text in many ways.

xgrammar (0.2) follows all of these ways before every token, in the process that answers everybody:
after ten letters `([a-z]{1,30} ?){1,20}` takes 0.5 s a token, after a hundred `(([a-z]*)*)*` takes
0.15 s. With a character that ends each round, as in `(\\w+,)*`, there is one way.
"""

import string
from dataclasses import dataclass
from re import _constants as opcodes
from typing import Any

_ASCII = 128
_OTHER = 1 << _ASCII
_ALL = (_OTHER << 1) - 1
_CATEGORIES = {
    opcodes.CATEGORY_DIGIT: string.digits,
    opcodes.CATEGORY_SPACE: string.whitespace,
    opcodes.CATEGORY_WORD: f"{string.ascii_letters}{string.digits}_",
}
_NOT = {
    opcodes.CATEGORY_NOT_DIGIT: opcodes.CATEGORY_DIGIT,
    opcodes.CATEGORY_NOT_SPACE: opcodes.CATEGORY_SPACE,
    opcodes.CATEGORY_NOT_WORD: opcodes.CATEGORY_WORD,
}
_REPEATS = (opcodes.MAX_REPEAT, opcodes.MIN_REPEAT, opcodes.POSSESSIVE_REPEAT)


@dataclass(slots=True)
class _Parts:
    """Characters of an expression, as sets of bits: one for each of ASCII, one for all others.

    `any` are all that may occur, `loose` those whose number may vary, and `must` has the sets of
    which one character occurs in every text.
    """

    any: int = 0
    loose: int = 0
    must: tuple[int, ...] = ()
    nested: bool = False


def is_ambiguous(tree: Any) -> bool:
    """True for a parsed expression in which rounds of a repetition may be told apart in many ways.

    That is a repetition of something of varying length without a character that ends each round:
    one that must occur in it and is none of those whose number varies.
    """
    return _parts(tree).nested


def _parts(tree: Any) -> _Parts:
    whole = _Parts()
    for operation, argument in tree:
        part = _part(operation, argument)
        whole.any |= part.any
        whole.loose |= part.loose
        whole.must += part.must
        whole.nested |= part.nested
    return whole


def _part(operation: Any, argument: Any) -> _Parts:
    if operation in _REPEATS:
        return _repeated(*argument)
    if operation is opcodes.SUBPATTERN:
        return _parts(argument[-1])
    if operation is opcodes.ATOMIC_GROUP:
        return _parts(argument)
    if operation is opcodes.BRANCH:
        return _alternatives([_parts(branch) for branch in argument[1]])
    if operation is opcodes.GROUPREF_EXISTS:
        return _alternatives([_parts(branch or ()) for branch in argument[1:]])
    characters = _characters(operation, argument)
    return _Parts(characters, 0, (characters,) if characters else ())


def _repeated(least: int, most: int, tree: Any) -> _Parts:
    once = _parts(tree)
    ended = any(not characters & once.loose for characters in once.must)
    nested = once.nested or (most > 1 and once.loose != 0 and not ended)
    if least == most:
        return _Parts(once.any, once.loose, once.must if least else (), nested)
    # The number of each of its characters varies: none of them ends a round around it.
    return _Parts(once.any, once.any, (), nested)


def _alternatives(branches: list[_Parts]) -> _Parts:
    whole = _Parts()
    for branch in branches:
        whole.any |= branch.any
        whole.loose |= branch.loose
        whole.nested |= branch.nested
    ends = [_union(each for each in branch.must if not each & whole.loose) for branch in branches]
    whole.must = (_union(ends),) if all(ends) else ()
    return whole


def _characters(operation: Any, argument: Any) -> int:
    if operation is opcodes.LITERAL:
        return _bit(argument)
    if operation is opcodes.NOT_LITERAL:
        return _ALL & ~_bit(argument) | _OTHER
    if operation is opcodes.ANY:
        return _ALL
    if operation is not opcodes.IN:
        return 0  # a place, not a character
    found = _union(_member(*each) for each in argument if each[0] is not opcodes.NEGATE)
    return _ALL & ~found | _OTHER if argument[0][0] is opcodes.NEGATE else found


def _member(operation: Any, argument: Any) -> int:
    if operation is opcodes.RANGE:
        first, last = argument
        return _union(_bit(code) for code in range(first, min(last, _ASCII) + 1)) or _OTHER
    if operation is opcodes.CATEGORY:
        return _category(argument)
    return _characters(operation, argument)


def _category(name: Any) -> int:
    if name in _NOT:
        return _ALL & ~_category(_NOT[name]) | _OTHER
    # xgrammar's classes are those of ASCII.
    return _union(_bit(ord(char)) for char in _CATEGORIES[name])


def _bit(code: int) -> int:
    return 1 << min(code, _ASCII)


def _union(sets: Any) -> int:
    whole = 0
    for each in sets:
        whole |= each
    return whole
