"""Caps on structured output, checked before it is compiled (docs/gate.md).

The cost was measured with xgrammar 0.2: a `regex` takes microseconds a symbol, a `pattern` in a
schema grows with the square of its symbols, and a number's bounds cost as much as some of them.

A regular expression may match one text in many ways by repetitions within repetitions. xgrammar
follows all of these before every token, in the process that answers everybody: after ten letters
`([a-z]{1,30} ?){1,20}` takes 0.5 s a token, after a hundred `(([a-z]*)*)*` takes 0.15 s. With a
character that ends each round, as in `(\\w+,)*`, there is one way.
"""

import json
import math
import re
import string
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from re import _constants as opcodes
from re import _parser as regex_parser
from typing import Any

from jsonschema_rs import Draft202012Validator, ValidationError

from service.common.error_messages import quote
from service.engine.texts import size_of
from service.errors import InvalidRequest, UnsupportedFeature
from service.limits.caps import depth
from service.limits.schema import check_enforced, count_alternatives
from service.settings.limits import LimitSettings

_MAX_EXPANSION = 4096
"""Symbols that one regex, or one repetition of a schema, may expand to when compiled."""

_MAX_SCHEMA_SYMBOLS = 512
"""Symbols that all patterns of a grammar's schemas may expand to together."""

_META = Draft202012Validator({"$ref": "https://json-schema.org/draft/2020-12/schema"})

_BOUND_KEYS = frozenset("minimum maximum exclusiveMinimum exclusiveMaximum".split())
_BOUND_SYMBOLS = 4

_REPETITION_KEYS = frozenset(
    "minLength maxLength minItems maxItems minProperties maxProperties".split()
)


def check_schema(schema: Any, limits: LimitSettings, param: str) -> None:
    """Refuse a JSON schema that is invalid, too large, expands too far or cannot be enforced."""
    check_schemas({param: schema}, limits.schema_bytes, limits, param)
    check_enforced(schema, param)


def check_schemas(
    schemas: Mapping[str, Any], most_bytes: int, limits: LimitSettings, param: str
) -> None:
    """Check schemas, by their place in the request, that become one grammar; see `check_schema`.

    `most_bytes` and the expansion count all of these together, under the name `param`.
    """
    size = symbols = alternatives = 0
    for where, schema in schemas.items():
        if not isinstance(schema, dict):
            raise InvalidRequest(
                f"{where}: must be a JSON schema object, got {quote(schema)}", param=where
            )
        size += len(json.dumps(schema, ensure_ascii=False).encode())
    if size > most_bytes:
        raise InvalidRequest(f"{param}: at most {most_bytes} bytes, got {size}", param=param)
    for where, schema in schemas.items():
        levels = depth(schema)
        if levels > limits.schema_depth:
            raise InvalidRequest(
                f"{where}: at most {limits.schema_depth} levels deep, got {levels}", param=where
            )
        symbols += _symbols(schema, limits, where)
        _check_meta(schema, where)
        alternatives += count_alternatives(schema)
    if alternatives > limits.schema_alternatives:
        raise InvalidRequest(
            f"{param}: at most {limits.schema_alternatives} alternatives (branches of anyOf and "
            f"oneOf, types of lists, objects in enum) together, got {alternatives}",
            param=param,
        )
    if symbols > _MAX_SCHEMA_SYMBOLS:
        raise InvalidRequest(
            f"{param}: patterns and bounds may expand to at most {_MAX_SCHEMA_SYMBOLS} symbols "
            f"together, got {symbols}; maxLength is cheaper than a counted pattern",
            param=param,
        )


def _check_meta(schema: dict[str, Any], param: str) -> None:
    try:
        _META.validate(schema)
    except ValidationError as error:
        where = "/".join(str(part) for part in error.instance_path) or "its root"
        raise InvalidRequest(
            f"{param}: not a valid JSON schema at {where}: {error.message[:120]}", param=param
        ) from None


def check_regex(pattern: Any, limits: LimitSettings, param: str) -> None:
    """Refuse a regular expression that does not parse, is too long or expands too far."""
    _checked_expansion(pattern, limits, param)


def _checked_expansion(pattern: Any, limits: LimitSettings, param: str) -> int:
    if not isinstance(pattern, str) or not pattern:
        raise InvalidRequest(
            f"{param}: must be a non-empty string, got {quote(pattern)}", param=param
        )
    _check_bytes(pattern, limits.regex_bytes, param)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # about the caller's pattern, not our code
            tree = regex_parser.parse(pattern)
            expansion, ambiguous = _expansion(tree), is_ambiguous(tree)
    except (re.error, OverflowError) as error:
        raise InvalidRequest(
            f"{param}: not a valid regular expression: {error}", param=param
        ) from None
    except RecursionError:
        raise InvalidRequest(f"{param}: nested too deeply", param=param) from None
    if ambiguous:
        raise UnsupportedFeature(
            f"{param}: a repetition of something of varying length needs a character that ends "
            f"each round, such as the comma of (\\w+,)*, got {quote(pattern)}",
            param=param,
        )
    if expansion > _MAX_EXPANSION:
        raise InvalidRequest(
            f"{param}: may expand to at most {_MAX_EXPANSION} symbols, got {expansion}", param=param
        )
    return expansion


def check_choice(choice: Any, limits: LimitSettings, param: str) -> None:
    """Refuse a list of choices that is empty, too long, or holds anything but short strings."""
    if not isinstance(choice, Sequence) or isinstance(choice, str) or not choice:
        raise InvalidRequest(f"{param}: must be a non-empty list, got {quote(choice)}", param=param)
    if len(choice) > limits.choices:
        raise InvalidRequest(
            f"{param}: at most {limits.choices} entries, got {len(choice)}", param=param
        )
    for index, entry in enumerate(choice):
        if not isinstance(entry, str) or not entry:
            raise InvalidRequest(
                f"{param}[{index}]: must be a non-empty string, got {quote(entry)}", param=param
            )
        _check_bytes(entry, limits.choice_bytes, f"{param}[{index}]")
    _check_bytes("".join(choice), limits.choices_bytes, param)


def _check_bytes(text: str, limit: int, param: str) -> None:
    if (size := size_of(text)) > limit:
        raise InvalidRequest(f"{param}: at most {limit} bytes, got {size}", param=param)


def _symbols(node: Any, limits: LimitSettings, param: str) -> int:
    """Symbols to which the patterns and bounds below a node expand; refuses too large ones."""
    if isinstance(node, float) and not math.isfinite(node):
        raise InvalidRequest(f"{param}: numbers must be finite, got {node}", param=param)
    if isinstance(node, list):
        return sum(_symbols(child, limits, param) for child in node)
    if not isinstance(node, dict):
        return 0
    total = 0
    for key, value in node.items():
        if key in _REPETITION_KEYS and isinstance(value, int | float) and value > _MAX_EXPANSION:
            raise InvalidRequest(
                f"{param}: {key} may be at most {_MAX_EXPANSION}, got {quote(value)}", param=param
            )
        if key == "pattern" and isinstance(value, str):
            total += _checked_expansion(value, limits, f"{param}.pattern")
        if key == "patternProperties" and isinstance(value, dict):
            where = f"{param}.patternProperties"
            total += sum(_checked_expansion(pattern, limits, where) for pattern in value)
        if key in _BOUND_KEYS:
            total += _BOUND_SYMBOLS
        total += _symbols(value, limits, param)
    return total


def _expansion(tree: Any) -> int:
    """Symbols in a parsed regex once its counted repetitions are written out."""
    total = 0
    for operation, argument in tree:
        if operation in (opcodes.MAX_REPEAT, opcodes.MIN_REPEAT, opcodes.POSSESSIVE_REPEAT):
            least, most, repeated = argument
            times = least if most is opcodes.MAXREPEAT else most
            total += max(1, int(times)) * _expansion(repeated)
        elif operation is opcodes.SUBPATTERN:
            total += _expansion(argument[-1])
        elif operation in (opcodes.ASSERT, opcodes.ASSERT_NOT):
            total += _expansion(argument[1])
        elif operation is opcodes.ATOMIC_GROUP:
            total += _expansion(argument)
        elif operation is opcodes.GROUPREF_EXISTS:
            total += sum(_expansion(branch) for branch in argument[1:] if branch)
        elif operation is opcodes.BRANCH:
            total += sum(_expansion(branch) for branch in argument[1])
        else:
            total += 1
    return total


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
    """The characters of an expression, as bit sets: a bit for each of ASCII, one for all others.

    `any` are the characters that may occur, `loose` those whose number may vary. `must` are sets:
    each text has a character of every one of them. `nested` marks an ambiguous repetition.
    """

    any: int = 0
    loose: int = 0
    must: tuple[int, ...] = ()
    nested: bool = False


def is_ambiguous(tree: Any) -> bool:
    """True for a parsed expression that can split a text into rounds of a repetition in many ways.

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
