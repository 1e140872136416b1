"""Strings and numbers: combines all schemas that apply in one place into a schema or rules."""

import json
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from decimal import Decimal
from functools import partial
from math import lcm
from re import _parser as re_parser
from typing import Any

from service.schemas.formats import FORMATS, SHORTER
from service.schemas.languages import Language, UnknownLanguage, languages_of, length_rules
from service.schemas.numbers import Multiples
from service.schemas.parts import Part, Rewriting, Schema, text_of

_COMPILED_FORMATS = frozenset(
    ("uri-reference", "uri-template", "json-pointer", "relative-json-pointer")
)
"""Formats that only the compiler knows; any other than these and FORMATS asserts nothing."""
_FEW = 64
_Bound = tuple[str, int | float] | None
"""The keyword and the value of a bound, if there is one."""


class Strings:
    """The constraints on a string in one place."""

    def __init__(self, parts: Iterable[Part]) -> None:
        self.patterns: list[tuple[Part, str]] = []
        self.formats: dict[str, Part] = {}
        self.without: list[tuple[Part, str]] = []
        self.lengths: list[tuple[Part, str]] = []
        self.least = 0
        self.most: int | None = None
        for part in parts:
            self._add(part)

    def _add(self, part: Part) -> None:
        node = part.node
        if "pattern" in node:
            self.patterns.append((part, node["pattern"]))
        if (name := node.get("format")) in FORMATS or name in _COMPILED_FORMATS:
            self.formats.setdefault(name, part)
        if "minLength" in node:
            self.least = max(self.least, int(node["minLength"]))
            self.lengths.append((part, "minLength"))
        if "maxLength" in node:
            most = int(node["maxLength"])
            self.most = most if self.most is None else min(self.most, most)
            self.lengths.append((part, "maxLength"))
        if isinstance(inner := node.get("not"), dict):
            values = inner.get("enum", [inner["const"]] if "const" in inner else [])
            texts = [f"^{re.escape(each)}$" for each in values if isinstance(each, str)]
            texts += [inner["pattern"]] if "pattern" in inner else []
            self.without += [(part, text) for text in texts]


def string_node(rewriter: Rewriting, parts: Sequence[Part]) -> Schema:
    """The schema of strings to which all parts apply."""
    strings = Strings(parts)
    if strings.most is not None and strings.most < strings.least:
        return False
    if not (strings.patterns or strings.formats or strings.without):
        if not strings.lengths:
            return {"type": "string"}
        make = partial(length_rules, strings.least, strings.most)
        return {"const": rewriter.add_rules(make, inside=True)}
    compiled = _COMPILED_FORMATS & strings.formats.keys()
    if len(compiled) == len(strings.formats) == 1 and not (strings.patterns or strings.without):
        _leave(rewriter, strings.lengths)
        return {"type": "string", "format": next(iter(compiled))}
    _leave(rewriter, ((strings.formats[name], "format") for name in compiled))
    language = _language(rewriter, strings)
    if language is None:
        return {"type": "string"}
    if language.is_empty:
        return False
    try:
        return {"const": rewriter.add_rules(language.rules, inside=True)}
    except UnknownLanguage:
        return False


def _leave(rewriter: Rewriting, keywords: Iterable[tuple[Part, str]]) -> None:
    for part, keyword in keywords:
        rewriter.leave(part, keyword)


def _language(rewriter: Rewriting, strings: Strings) -> Language | None:
    """The texts to which everything applies that has an automaton; the rest is noted as left."""
    found: Language | None = None

    def join(part: Part, keyword: str, pattern: str, *, negated: bool = False) -> None:
        nonlocal found
        try:
            languages = list(languages_of(pattern))
            if negated and len(languages) > 1:
                raise UnknownLanguage
            for language, excluded in languages:
                if negated or excluded:
                    found = (found or Language.of_length(0, None)) - language
                else:
                    found = language if found is None else found & language
        except UnknownLanguage:
            rewriter.leave(part, keyword)

    for name, part in strings.formats.items():
        if name in FORMATS:
            join(part, "format", _format(name, strings.most))
    for part, pattern in strings.patterns:
        join(part, "pattern", pattern)
    for part, pattern in strings.without:
        join(part, "not", pattern, negated=True)
    if strings.lengths and not _implied(found, strings):
        try:
            lengths = Language.of_length(strings.least, strings.most)
            found = lengths if found is None else found & lengths
        except UnknownLanguage:
            _leave(rewriter, strings.lengths)
    return found


def _format(name: str, most: int | None) -> str:
    """A pattern of a format whose texts all have at most `most` characters, if there is one."""
    for pattern in (FORMATS[name], *SHORTER.get(name, ())):
        widest = re_parser.parse(pattern).getwidth()[1]
        if most is None or widest <= most:
            return pattern
    return FORMATS[name]


def _implied(language: Language | None, strings: Strings) -> bool:
    """True if all texts are long and short enough."""
    if language is None or language.is_empty:
        return False
    least, most = language.span
    return least >= strings.least and (
        strings.most is None or (most is not None and most <= strings.most)
    )


def number_node(rewriter: Rewriting, parts: Sequence[Part], kind: str) -> Schema:
    """The schema of numbers, or integers, to which all parts apply."""
    nodes = [part.node for part in parts]
    lower = _bound(nodes, "minimum", "exclusiveMinimum", 1)
    upper = _bound(nodes, "maximum", "exclusiveMaximum", -1)
    steps = [Decimal(str(part.node["multipleOf"])) for part in parts if "multipleOf" in part.node]
    if kind == "integer":
        steps.append(Decimal(1))
    step = _common(steps) if steps else None
    if step == 1:
        kind = "integer"
    bounds = dict(each for each in (lower, upper) if each is not None)
    if unwanted := [part for part in parts if _excludes_numbers(part.node.get("not"))]:
        one = step or Decimal(0)
        values = step and Multiples(step, _closed(lower, one, 1), _closed(upper, one, -1)).values(
            _FEW
        )
        if values:
            kept = [each for each in values if rewriter.is_valid(each, parts)]
            return {"enum": kept} if kept else False
        for part in unwanted:
            rewriter.leave(part, "not")
    if step is None or step == 1:
        return False if _is_empty(lower, upper, step) else {"type": kind} | bounds
    multiples = _multiples(step, lower, upper)
    values = multiples.values(_FEW)
    if values is not None:
        return {"enum": values} if values else False
    try:
        return {"const": rewriter.add_rules(multiples.rules, inside=False)}
    except UnknownLanguage:
        for part in parts:
            if "multipleOf" in part.node:
                rewriter.leave(part, "multipleOf")
        return {"type": kind} | bounds


def _excludes_numbers(inner: Any) -> bool:
    if not isinstance(inner, dict):
        return False
    values = inner.get("enum", [inner["const"]] if "const" in inner else ())
    return any(isinstance(each, int | float) and not isinstance(each, bool) for each in values)


def _bound(nodes: Iterable[Mapping[str, Any]], closed: str, open_: str, sign: int) -> _Bound:
    """The strictest of the parts' bounds on one side, by its keyword."""
    found = [
        (sign * node[key], key == open_, key, node[key])
        for node in nodes
        for key in (closed, open_)
        if key in node
    ]
    return max(found)[2:] if found else None


def _is_empty(lower: _Bound, upper: _Bound, step: Decimal | None) -> bool:
    if lower is None or upper is None:
        return False
    if step is not None:
        return _multiples(step, lower, upper).values(1) == []
    open_ = lower[0] == "exclusiveMinimum" or upper[0] == "exclusiveMaximum"
    return lower[1] > upper[1] or (open_ and lower[1] == upper[1])


def _multiples(step: Decimal, lower: _Bound, upper: _Bound) -> Multiples:
    return Multiples(step, _closed(lower, step, 1), _closed(upper, step, -1))


def _closed(bound: _Bound, step: Decimal, sign: int) -> Decimal | None:
    """A bound that itself is allowed; of an open one, the next number of the step."""
    if bound is None:
        return None
    value = Decimal(str(bound[1]))
    if bound[0].startswith("exclusive") and value % step == 0:
        value += sign * step
    return value


def _common(steps: Sequence[Decimal]) -> Decimal:
    """The least common multiple."""
    scale: int = 10 ** max(max(0, -int(each.normalize().as_tuple().exponent)) for each in steps)
    return Decimal(lcm(*(int(each * scale) for each in steps))) / Decimal(scale)


def finite_values(schema: Any, most: int) -> list[Any] | None:
    """All values that a converted schema allows, None if there may be more than `most`."""
    if not isinstance(schema, dict):
        return None
    if "enum" in schema:
        found = list(schema["enum"])
    elif "anyOf" in schema:
        lists = [finite_values(each, most) for each in schema["anyOf"]]
        if None in lists:
            return None
        found = [value for each in lists for value in each or ()]
    elif schema.get("type") == "boolean":
        found = [True, False]
    elif schema.get("type") == "null":
        found = [None]
    elif schema.get("type") == "integer":
        lower = _bound([schema], "minimum", "exclusiveMinimum", 1)
        upper = _bound([schema], "maximum", "exclusiveMaximum", -1)
        return _multiples(Decimal(1), lower, upper).values(most)
    else:
        return None
    different = list({text_of(each): each for each in found}.values())
    return different if len(different) <= most else None


def texts_of(values: Iterable[Any]) -> Iterator[str]:
    """Values as JSON, as a grammar's literals."""
    for each in values:
        yield json.dumps(json.dumps(each, ensure_ascii=False), ensure_ascii=False)
