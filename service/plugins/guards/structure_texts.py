"""Texts of structures: what a schema, a choice or a regular expression can have a model write."""

import re
import warnings
from collections.abc import Iterator
from re import _constants as codes
from re import _parser as regex_parser
from typing import Any

_KEYWORDS = frozenset(
    """$anchor $comment $defs $dynamicAnchor $dynamicRef $id $ref $schema $vocabulary
    additionalProperties allOf anyOf const contains contentEncoding contentMediaType contentSchema
    default definitions dependentRequired dependentSchemas deprecated description else enum examples
    exclusiveMaximum exclusiveMinimum format if items maxContains maxItems maxLength maxProperties
    maximum minContains minItems minLength minProperties minimum multipleOf name not oneOf pattern
    patternProperties prefixItems properties propertyNames readOnly required schema strict then
    title type unevaluatedItems unevaluatedProperties uniqueItems value writeOnly""".split()
) | {"choice", "json", "json_object", "json_schema", "regex"}
"""Keys of structures and JSON schemas, which are no caller's words."""
_TYPES = frozenset(
    """array boolean choice integer json_object json_schema null number object regex string
    text""".split()
)
_PATTERNS = frozenset(("pattern", "regex"))
_MOST_TIMES = 3
_STEM = 32
_HIDDEN = re.compile(r"\(\?#([^)]*)\)|\(\?P<(\w+)>")
"""Comments and names of groups, which a chat template may write with the rest of a pattern."""


def structure_texts(value: Any, key: str = "") -> Iterator[str]:
    """The lines of a structure that hold words: names, descriptions, constants, literal texts.

    A guard reads these better than JSON. The words of a list are one line, as in a sentence.
    """
    match value:
        case str() if key in _PATTERNS:
            yield literal_text(value)
        case str() if key != "type" or value not in _TYPES:
            yield value
        case list():
            words = [each for each in value if isinstance(each, str)]
            if words and (key != "type" or not _TYPES.issuperset(words)):
                yield ", ".join(words)
            for each in value:
                if not isinstance(each, str):
                    yield from structure_texts(each, key)
        case dict():
            for name, each in value.items():
                if key == "patternProperties":
                    yield literal_text(name)
                elif name not in _KEYWORDS:
                    yield name
                yield from structure_texts(each, name)


def literal_text(pattern: str) -> str:
    """The text that a regular expression spells, its alternatives one after another.

    Where it leaves characters open stands a space. A pattern that does not parse is its own text.
    """
    found: list[str] = []
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # about the caller's pattern, not our code
            _spell(regex_parser.parse(pattern), found)
    except (re.error, OverflowError, RecursionError):
        return pattern
    hidden = (" ".join(each) for each in _HIDDEN.findall(pattern))
    return " ".join(" ".join(("".join(found), *hidden)).split())


def _spell(tree: Any, found: list[str]) -> None:
    for code, argument in tree:
        if code is codes.LITERAL:
            found.append(chr(argument))
        elif code is codes.IN:
            found.append(_one_of(argument))
        elif code in (codes.MAX_REPEAT, codes.MIN_REPEAT, codes.POSSESSIVE_REPEAT):
            least, _, repeated = argument
            letter = len(repeated) == 1 and repeated[0][0] is codes.LITERAL
            for _ in range(max(1, min(int(least), _MOST_TIMES)) if letter else 1):
                _spell(repeated, found)
        elif code is codes.SUBPATTERN:
            _spell(argument[-1], found)
        elif code is codes.ATOMIC_GROUP:
            _spell(argument, found)
        elif code is codes.ASSERT:
            _spell(argument[1], found)
        elif code in (codes.BRANCH, codes.GROUPREF_EXISTS):
            # The parser takes out what alternatives begin with: pr(evious|ior).
            begun = re.findall(r"\w*\Z", "".join(found[-_STEM:]))[0]
            branches = argument[1] if code is codes.BRANCH else filter(None, argument[1:])
            for number, branch in enumerate(branches):
                found.append(f", {begun}" if number else "")
                _spell(branch, found)
        elif code is not codes.AT:
            found.append(" ")


def _one_of(ways: Any) -> str:
    """The letter of a set of characters that has one, in small or capital; the first of several."""
    letters = [chr(value) for code, value in ways if code is codes.LITERAL]
    if len(letters) < len(ways) or any(each.isspace() for each in letters):
        return " "
    return letters[0] if len({each.lower() for each in letters}) > 1 else letters[0].lower()
