"""A grammar of JSON schemas, and a search among them for the dearest that the service accepts.

Half of the schemas are made anew, half are changes of the dearest so far. Each passes the caps and
the sandbox as a request's would. Those that are accepted are walked anew, longer and at random
otherwise, and the longest mask is printed as it grows.
"""

import json
import random
import time
from collections import Counter
from contextlib import suppress
from copy import deepcopy
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import xgrammar
from transformers import AutoTokenizer

from service.errors import ServiceError
from service.limits.schema import nodes
from service.limits.structure import check_schema
from service.settings.admission import PreparationSettings
from service.settings.limits import LimitSettings
from service.vllm.grammar_walk import DeadEnd, Vocabulary, Walker
from service.vllm.grammar_worker import answer

_DEFINITIONS = 4
_FORMATS = ("email", "uri", "date-time", "ipv6", "uuid", "duration", "hostname", "date", "time")
_PATTERNS = ("^[a-z]{1,8}$", r"^\d{4}-\d{2}$", "^(yes|no|maybe)$", "^a*b+c?$", "^[^\\n]{0,20}$")
_ALLOWED = 3.0
"""Times `preparation.mask_ms` that the engine allows a mask."""


def schema(dice: random.Random, size: int = 24) -> dict[str, Any]:
    """A schema of some `size` parts, with definitions that may lead to themselves."""
    made = _Maker(dice, size).part(0)
    names = [f"d{number}" for number in range(_DEFINITIONS)]
    made["$defs"] = {name: _Maker(dice, size // 2).part(1) for name in names}
    return made


class _Maker:
    """Makes parts until there are enough; then only leaves."""

    def __init__(self, dice: random.Random, size: int) -> None:
        self._dice = dice
        self._left = size

    def part(self, level: int) -> dict[str, Any]:
        """A part of any kind."""
        self._left -= 1
        if self._left < 0 or level > 6:
            return self._leaf()
        kinds = (self._object, self._array, self._branches, self._reference, self._types)
        kind = self._dice.choices((*kinds, lambda _: self._leaf()), (4, 3, 3, 3, 1, 3))[0]
        return kind(level + 1)

    def _object(self, level: int) -> dict[str, Any]:
        dice = self._dice
        names = [f"{dice.choice('abcx')}{n}" for n in range(dice.choice((1, 1, 2, 3, 5)))]
        made = {
            "type": "object",
            "properties": {name: self.part(level) for name in names},
            "required": [name for name in names if dice.random() < 0.6],
            "additionalProperties": False,
        }
        if dice.random() < 0.2:
            made["additionalProperties"] = self.part(level)
        if dice.random() < 0.1:
            made[dice.choice(("minProperties", "maxProperties"))] = dice.randint(1, len(names))
        return made

    def _array(self, level: int) -> dict[str, Any]:
        made: dict[str, Any] = {"type": "array", "items": self.part(level)}
        if self._dice.random() < 0.3:
            made["prefixItems"] = [self.part(level) for _ in range(self._dice.randint(1, 3))]
        if self._dice.random() < 0.4:
            made["maxItems"] = self._dice.choice((2, 5, 30, 200))
        if self._dice.random() < 0.2:
            made["minItems"] = self._dice.choice((1, 2))
        return made

    def _branches(self, level: int) -> dict[str, Any]:
        dice = self._dice
        count = dice.choice((2, 3, 3, 5, 12, 40))
        if dice.random() < 0.5:  # alike but for a bound, or an optional member
            alike = {"type": "array", "items": self.part(level)}
            branches = [alike | {"maxItems": 50 + number} for number in range(count)]
        else:
            branches = [self.part(level) for _ in range(count)]
        return {dice.choice(("anyOf", "anyOf", "oneOf")): branches}

    def _reference(self, _: int) -> dict[str, Any]:
        return {"$ref": f"#/$defs/d{self._dice.randrange(_DEFINITIONS)}"}

    def _types(self, _: int) -> dict[str, Any]:
        kinds = ["string", "integer", "number", "boolean", "null", "object", "array"]
        return {"type": self._dice.sample(kinds, self._dice.randint(2, 4))}

    def _leaf(self) -> dict[str, Any]:
        dice = self._dice
        kind = dice.choice(("text", "text", "long", "format", "pattern", "number", "enum", "any"))
        match kind:
            case "long":
                return {"type": "string", "maxLength": dice.choice((1, 10, 50, 300))}
            case "format":
                return {"type": "string", "format": dice.choice(_FORMATS)}
            case "pattern":
                return {"type": "string", "pattern": dice.choice(_PATTERNS)}
            case "number":
                bounds = {"minimum": dice.randint(-9, 9), "maximum": dice.randint(10, 99_999)}
                return {"type": dice.choice(("integer", "number"))} | bounds
            case "enum":
                values = [f"{dice.choice('ab')}{n}" for n in range(dice.choice((2, 9, 40)))]
                return {"enum": values if dice.random() < 0.7 else [{"a": v} for v in values]}
            case "any":
                return dice.choice(({"type": "null"}, {"type": "boolean"}, {"type": "object"}))
        return {"type": "string"}


def changed(dice: random.Random, before: dict[str, Any]) -> dict[str, Any]:
    """A schema with one part replaced by another of its own, by a new one, or repeated."""
    made = deepcopy(before)
    places = [node for path, node in nodes(made) if path and "/$defs" not in path[-8:]]
    if not places:
        return schema(dice)
    place = dice.choice(places)
    branches = next((place[key] for key in ("anyOf", "oneOf") if key in place), None)
    if branches and dice.random() < 0.6:
        more = [dice.choice(branches) | {"maxItems": dice.randrange(9, 99)} for _ in branches]
        branches.extend(more[: dice.choice((1, 4, 30))])
        return made
    new = _Maker(dice, dice.choice((1, 4, 12))).part(2)
    if dice.random() < 0.3:
        new = deepcopy(dice.choice(places))
    place.clear()
    place.update(new)
    return made


class _Searcher(Walker):
    """Walks that go on where a mask is dear, and read it again to be sure."""

    def _time(self, matcher: Any) -> None:
        seconds = self._fill(matcher)
        if seconds > self.worst:
            seconds = min(seconds, self._fill(matcher))
        self.worst = max(self.worst, seconds)


@dataclass
class Found:
    """The dearest accepted schema so far, and its longest mask in seconds."""

    seconds: float
    schema: dict[str, Any]


class Search:
    """Tries schemas as the service does, and measures those that it accepts."""

    def __init__(self, model: Path) -> None:
        tokenizer = AutoTokenizer.from_pretrained(model)
        self._vocabulary = Vocabulary(xgrammar.TokenizerInfo.from_huggingface(tokenizer))
        self._limits = LimitSettings()
        settings = PreparationSettings()
        self.mask_seconds = settings.mask_ms / 1000
        self._seconds = settings.structure_ms / 1000
        self._terms = {
            "memory": settings.structure_mib << 20,
            "any_whitespace": True,
            "mask": self.mask_seconds,
        }

    def outcome(self, schema: dict[str, Any]) -> tuple[str, float]:
        """What the service says to a schema, and the longest mask that the sandbox met."""
        try:
            check_schema(schema, self._limits, "schema")
        except ServiceError as error:
            return f"refused by the caps: {error.code}", 0.0
        text = json.dumps(schema)
        asked = json.dumps({"kind": "json", "text": text, "seconds": self._seconds})
        said = answer(asked.encode(), self._vocabulary, self._terms)
        if "ok" in said:
            return "accepted", float(said["mask"])
        return f"refused by the sandbox: {said.get('limit') or next(iter(said))}", 0.0

    def longest_mask(self, schema: dict[str, Any], seed: int) -> float:
        """Seconds of the longest mask of other, longer walks."""
        compiler = xgrammar.GrammarCompiler(self._vocabulary.tokens, max_threads=1)
        grammar = compiler.compile_json_schema(json.dumps(schema))
        longest = 0.0
        for number in range(2):
            walker = _Searcher(self._vocabulary, 0.0, 1.0, seed=seed + number, steps=200)
            with suppress(DeadEnd):
                walker.walk(grammar)
            longest = max(longest, walker.worst)
        return longest


def search(model: Path, seconds: float, seed: int) -> bool:
    """Search for so long; true if a mask takes longer than the engine allows."""
    searching, outcomes = Search(model), Counter[str]()
    dearest: list[Found] = []
    until = time.monotonic() + seconds
    number = 0
    while time.monotonic() < until:
        dice = random.Random(f"{seed}.{number}")
        number += 1
        if dearest and dice.random() < 0.5:
            made = changed(dice, dice.choice(dearest).schema)
        else:
            made = schema(dice, dice.choice((6, 24, 60)))
        outcome, seen = searching.outcome(made)
        outcomes[outcome] += 1
        if outcome != "accepted":
            continue
        found = Found(max(seen, searching.longest_mask(made, number)), made)
        dearer = not dearest or found.seconds > dearest[0].seconds
        dearest = sorted([*dearest, found], key=lambda each: -each.seconds)[:20]
        if dearer:
            print(
                f"{number:7} {1000 * found.seconds:7.2f} ms  {json.dumps(made)[:160]}", flush=True
            )
    for outcome, count in outcomes.most_common():
        print(f"{count:7} {outcome}")
    allowed = _ALLOWED * searching.mask_seconds
    longest = dearest[0].seconds
    print(
        f"longest mask {1000 * longest:.1f} ms; the engine ends requests at {1000 * allowed:g} ms"
    )
    return longest > allowed
