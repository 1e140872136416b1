"""Regular languages of strings, and their rules in a grammar.

The automata are interegular's. Each rule stands for a state, so a language of N states has N rules
(a right-linear grammar, in xgrammar's GBNF). Compiling a language takes some 3 ms a state.
"""

from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from functools import lru_cache
from typing import Any

import interegular
from interegular.fsm import FSM, anything_else
from interegular.patterns import InvalidSyntax, Unsupported

from service.schemas.formats import FORMATS, NARROWER, SHORTER

MAX_STATES = 384

Way = tuple[str, str]
"""What a rule writes, and the rule that follows; none where the text ends."""

_ANY = r"[\s\S]"
_ESCAPED = {
    '"': r'"\\\""',
    "\\": r'"\\\\"',
    "\n": r'"\\n"',
    "\t": r'"\\t"',
    "\r": r'"\\r"',
}
"""The escapes of characters in a JSON string, as literals of a grammar."""


class UnknownLanguage(Exception):
    """A pattern without an automaton, or whose automaton has too many states."""


def languages_of(pattern: str) -> "Iterator[tuple[Language, bool]]":
    """The languages that decide whether a text matches a pattern;

    True if it must not be in one. A pattern may match anywhere in the text, as in JSON Schema.
    Lookaheads at its beginning become separate languages; anchors are supported at the ends of its
    outermost branches. Raises UnknownLanguage.
    """
    rest = NARROWER.get(pattern, pattern)
    while rest.startswith(("^(?=", "^(?!")) and len(_alternatives(rest)) == 1:
        end = _group_end(rest, 1)
        yield _language("^" + rest[4:end]), rest[3] == "!"
        rest = "^" + rest[end + 1 :]
    yield _language(rest), False


def prepare_formats() -> None:
    """Build the automata of all formats in advance, which takes a fifth of a second."""
    for pattern in (*FORMATS.values(), *(each for more in SHORTER.values() for each in more)):
        _language(pattern)


@lru_cache(maxsize=64)
def _language(pattern: str) -> "Language":
    branches = []
    for branch in _alternatives(pattern):
        marks = dict(_outside_classes(branch))
        first, last = marks.pop(0, "") == "^", marks.pop(len(branch) - 1, "") == "$"
        if not {"^", "$", "\\b", "\\B", "\\A", "\\Z"}.isdisjoint(marks.values()):
            raise UnknownLanguage
        inner = branch[first : len(branch) - last]
        branches.append(f"{'' if first else _ANY + '*'}(?:{inner}){'' if last else _ANY + '*'}")
    return Language(_automaton("|".join(branches)))


def _group_end(pattern: str, start: int) -> int:
    """The place of the parenthesis that closes the one at `start`."""
    depth = 0
    for at, text in _outside_classes(pattern):
        depth += (text == "(") - (text == ")") if at >= start else 0
        if at > start and depth == 0:
            return at
    raise UnknownLanguage


def _outside_classes(pattern: str) -> Iterator[tuple[int, str]]:
    """The characters and escapes of a pattern that are in no character class, by their places."""
    at, in_class = 0, False
    while at < len(pattern):
        size = 2 if pattern[at] == "\\" else 1
        text = pattern[at : at + size]
        if not in_class:
            yield at, text
        in_class = text != "]" if in_class else text == "["
        at += size


def _alternatives(pattern: str) -> list[str]:
    """The branches of a pattern's outermost `|`."""
    found, depth, start = [], 0, 0
    for at, text in _outside_classes(pattern):
        depth += (text == "(") - (text == ")")
        if text == "|" and depth == 0:
            found.append(pattern[start:at])
            start = at + 1
    return [*found, pattern[start:]]


class Language:
    """A set of texts, by an automaton. Operations raise UnknownLanguage above MAX_STATES."""

    def __init__(self, automaton: Any) -> None:
        self._automaton = _minimal(automaton)
        if len(self._automaton.states) > MAX_STATES:
            raise UnknownLanguage

    @classmethod
    def of_length(cls, least: int, most: int | None) -> "Language":
        """The texts of `least` to `most` characters."""
        if max(least, most or 0) > MAX_STATES:
            raise UnknownLanguage
        return cls(_automaton(f"{_ANY}{{{least},{'' if most is None else most}}}"))

    def __and__(self, other: "Language") -> "Language":
        return Language(self._automaton & other._automaton)

    def __sub__(self, other: "Language") -> "Language":
        return Language(self._automaton - other._automaton)

    @property
    def is_empty(self) -> bool:
        """True if there is no such text."""
        return bool(self._automaton.empty())

    @property
    def span(self) -> tuple[int, int | None]:
        """The smallest and the largest length of a text in characters; None for no maximum."""
        after = self._live_ways()
        reached, least = {self._automaton.initial}, 0
        while not reached & self._automaton.finals:
            reached = {target for state in reached for target in after[state]}
            least += 1
        reached, length = {self._automaton.initial}, -1
        while reached and length <= len(after):
            reached = {target for state in reached for target in after[state]}
            length += 1
        return least, None if reached else length

    def _live_ways(self) -> dict[Any, dict[Any, set[Any]]]:
        """The states from which a text can end; for each, the next ones and their symbols."""
        machine = self._automaton  # of the fewest states, so all are live unless it is empty
        live = set() if self.is_empty else machine.states
        ways: dict[Any, dict[Any, set[Any]]] = {state: defaultdict(set) for state in live}
        for state in live:
            for key, target in machine.map[state].items():
                ways[state][target].update(machine.alphabet.by_transition[key])
        return ways

    def rules(self, name: str) -> str:
        """Rules for the inside of a JSON string, the first named `name`.

        Raises UnknownLanguage if every text has characters that JSON can write only as numeric
        escapes.
        """
        after = self._live_ways()
        initial = self._automaton.initial
        names = {state: f"{name}_{at}" for at, state in enumerate(after)} | {initial: name}
        rules: dict[str, list[Way]] = {}
        for state, targets in after.items():
            ways = [('""', "")] if state in self._automaton.finals else []
            for target, symbols in targets.items():
                ways += [(char, names[target]) for char in self._characters(symbols)]
            rules[names[state]] = ways
        return write_rules(name, rules)

    def _characters(self, symbols: set[Any]) -> Iterator[str]:
        """Character sets and escapes, as GBNF, of the symbols that a JSON string may have."""
        plain = {each for each in symbols if each is not anything_else and len(each) == 1}
        for char in sorted(plain & _ESCAPED.keys()):
            yield _ESCAPED[char]
        shown = {each for each in plain if each not in _ESCAPED and ord(each) >= 0x20}
        if anything_else in symbols:
            others = {each for each in self._automaton.alphabet if each is not anything_else}
            yield f'[^\\x00-\\x1f"\\\\{_set(others - shown - set(_ESCAPED))}]'
        elif shown:
            yield f"[{_set(shown)}]"


def length_rules(least: int, most: int | None, name: str) -> str:
    """Rules for the inside of a JSON string of `least` to `most` characters without escapes."""
    return f'{name} ::= [^\\x00-\\x1f"\\\\]{{{least},{"" if most is None else most}}}'


def write_rules(first: str, rules: Mapping[str, Sequence[Way]]) -> str:
    """The rules as GBNF, the start rule first, without rules that match no text.

    Raises UnknownLanguage if the start rule matches none.
    """
    kept = {name: list(ways) for name, ways in rules.items()}
    while dead := {name for name, ways in kept.items() if not ways}:
        kept = {
            name: [way for way in ways if way[1] not in dead]
            for name, ways in kept.items()
            if name not in dead
        }
    if first not in kept:
        raise UnknownLanguage
    order = sorted(kept, key=lambda name: name != first)
    return "\n".join(
        f"{name} ::= {' | '.join(' '.join(way).strip() for way in kept[name])}" for name in order
    )


def _automaton(pattern: str) -> Any:
    try:
        return interegular.parse_pattern(pattern).to_fsm()
    except (InvalidSyntax, Unsupported, NotImplementedError, ValueError) as error:
        raise UnknownLanguage from error


def _minimal(machine: Any) -> Any:
    """The automaton with the fewest states, by refining a partition (Moore 1956).

    interegular's own way determinizes the reversed automaton, which takes seconds for some.
    """
    before: dict[Any, set[Any]] = defaultdict(set)
    for state, ways in machine.map.items():
        for target in ways.values():
            before[target].add(state)
    live: set[Any] = set()
    found = set(machine.finals)
    while found:
        live |= found
        found = set().union(*(before[state] for state in found)) - live
    ways = {
        state: {key: to for key, to in machine.map.get(state, {}).items() if to in live}
        for state in live | {machine.initial}
    }
    group = {state: int(state in machine.finals) for state in ways}
    groups = 0
    while len(set(group.values())) > groups:
        groups = len(set(group.values()))
        numbers: dict[Any, int] = {}
        group = {
            state: numbers.setdefault(
                (group[state], frozenset((key, group[to]) for key, to in ways[state].items())),
                len(numbers),
            )
            for state in ways
        }
    return FSM(
        alphabet=machine.alphabet,
        states=set(group.values()),
        initial=group[machine.initial],
        finals={group[state] for state in machine.finals},
        map={group[state]: {key: group[to] for key, to in ways[state].items()} for state in ways},
    )


def _set(chars: set[str]) -> str:
    """The inside of a character set, neighbours as ranges."""
    runs: list[list[int]] = []
    for code in sorted(ord(char) for char in chars if ord(char) >= 0x20):
        if runs and runs[-1][1] == code - 1:
            runs[-1][1] = code
        else:
            runs.append([code, code])
    return "".join(
        _member(first) + (f"-{_member(last)}" if last > first else "") for first, last in runs
    )


def _member(code: int) -> str:
    char = chr(code)
    return f"\\{char}" if char in "]\\^-[" else char
