"""The texts of a request that guards read, including schemas, choices and regular expressions."""

import json
import re
import warnings
from collections.abc import Iterator, Mapping
from re import _constants as codes
from re import _parser as regex_parser
from typing import Any

from service.plugins.guards.fields import READ, STRUCTURES, UNREAD_WITHIN

_KEYWORDS = frozenset(
    """$anchor $comment $defs $dynamicAnchor $dynamicRef $id $ref $schema $vocabulary
    additionalProperties allOf anyOf const contains contentEncoding contentMediaType contentSchema
    default definitions dependentRequired dependentSchemas deprecated description else enum examples
    exclusiveMaximum exclusiveMinimum format if items maxContains maxItems maxLength maxProperties
    maximum minContains minItems minLength minProperties minimum multipleOf name not oneOf pattern
    patternProperties prefixItems properties propertyNames readOnly required schema strict then
    title type unevaluatedItems unevaluatedProperties uniqueItems value writeOnly""".split()
) | {"choice", "json", "json_object", "json_schema", "regex"}
"""Keywords of structures and JSON schemas, which are not the caller's words."""
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
    """The words in a structure, as lines:

    names, descriptions, constants, literal texts. Guards understand these better than JSON. The
    words of a list make one line, like a sentence.
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
    """The literal text in a regular expression, with alternatives one after another.

    Wildcards become a space. A pattern that does not parse is returned unchanged.
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
            # The parser factors out common prefixes: previous|prior becomes pr(evious|ior).
            begun = re.findall(r"\w*\Z", "".join(found[-_STEM:]))[0]
            branches = argument[1] if code is codes.BRANCH else filter(None, argument[1:])
            for number, branch in enumerate(branches):
                found.append(f", {begun}" if number else "")
                _spell(branch, found)
        elif code is not codes.AT:
            found.append(" ")


def _one_of(ways: Any) -> str:
    """The letter of a set like [Ii], in lower case; of several letters the first; else a space."""
    letters = [chr(value) for code, value in ways if code is codes.LITERAL]
    if len(letters) < len(ways) or any(each.isspace() for each in letters):
        return " "
    return letters[0] if len({each.lower() for each in letters}) > 1 else letters[0].lower()


_ROLES = frozenset("system developer user assistant tool".split())
_IDS = frozenset("id call_id tool_call_id tool_use_id".split())
_ID = re.compile(r"[A-Za-z0-9_.:-]{0,64}")
_WORDS = re.compile(r"[A-Z]?[a-z]+|[A-Z]+")
_MADE = frozenset("call chatcmpl function functions tool toolu".split())
"""Words with which generated ids begin."""
_LEAST_WORDS, _LONG_WORD = 4, 14
"""An id of fewer words may be a tool's name, and is not read unless a word is so long."""
_SCHEMAS = frozenset(("parameters", "input_schema"))
_ARGUMENTS = "arguments"
"""The key of a past call's arguments: JSON in a string, which templates get parsed."""

Read = str | tuple[int, ...]
"""A text, or a prompt of token ids."""


def texts_of(body: Mapping[str, Any]) -> list[Read]:
    """The distinct texts of a request:

    one for each message, tool and prompt, and one for structures. Reads the fields in
    `fields.READ`. A tool's lines, and labels, are joined by commas: in this form the trained guard
    has the fewest false alarms.
    """
    found: dict[Read, None] = {}
    for field in READ:
        value: Any = body.get(field)
        if value is None or field in STRUCTURES:
            continue
        one = _is_tokens(value) or not isinstance(value, list)
        entries: list[Any] = [value] if one or field == "candidate_labels" else value
        between = ", " if field in ("tools", "candidate_labels") else "\n"
        for entry in entries:
            strings = _everything(entry) if field == "documents" else _strings(entry)
            text = tuple(entry) if _is_tokens(entry) else between.join(dict.fromkeys(strings))
            if not isinstance(text, str) or text.strip():
                found[text] = None
    structures = "\n".join(dict.fromkeys(_structures(body)))
    if any(map(str.isalpha, structures)):
        found[structures] = None
    return list(found)


def _structures(body: Mapping[str, Any]) -> Iterator[str]:
    for field in STRUCTURES:
        value = body.get(field)
        if field in ("text", "output_config") and isinstance(value, dict):
            value = value.get("format")
        yield from structure_texts(value)


def _is_tokens(value: Any) -> bool:
    return isinstance(value, list) and bool(value) and all(isinstance(each, int) for each in value)


def _everything(value: Any) -> Iterator[str]:
    """All strings of a value, and its keys, which are the caller's own words."""
    match value:
        case str():
            yield value
        case list():
            for each in value:
                yield from _everything(each)
        case dict():
            for key, each in value.items():
                yield key
                yield from _everything(each)


def _strings(value: Any) -> Iterator[str]:
    """The strings of a value that a model may read."""
    match value:
        case str():
            yield value
        case list():
            for each in value:
                yield from _strings(each)
        case dict():
            for key, each in value.items():
                if key in _SCHEMAS:
                    yield from structure_texts(each)
                elif key == "input" and isinstance(each, dict):
                    yield json.dumps(each, ensure_ascii=False)
                elif key == _ARGUMENTS and isinstance(each, str):
                    yield _parsed(each)
                elif key in _IDS and isinstance(each, str):
                    yield from _words(each)
                elif key not in UNREAD_WITHIN and not (key == "role" and each in _ROLES):
                    yield from _strings(each)


def _words(name: str) -> Iterator[str]:
    """The words of an id, since templates may write it; nothing for a random id.

    A guard takes random letters for an attack.
    """
    if _ID.fullmatch(name) is None:
        yield name
        return
    pieces = [_WORDS.findall(each) for each in re.split("[_.:-]", name) if each.isalpha()]
    # Single letters between capitals are random ones.
    sound = [each for each in pieces if len(each) == 1 or min(map(len, each)) > 1]
    words = [word for piece in sound for word in piece if word not in _MADE]
    long = any(len(word) >= _LONG_WORD for word in words)
    if long or len([word for word in words if len(word) > 1]) >= _LEAST_WORDS:
        yield " ".join(words)


def _parsed(arguments: str) -> str:
    """A JSON string written without escapes, as templates write it, which get it parsed."""
    try:
        return json.dumps(json.loads(arguments), ensure_ascii=False)
    except ValueError:
        return arguments
