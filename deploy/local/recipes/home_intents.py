"""Sentences to a smart home, drawn from the templates of home-assistant-intents.

The grammar is CC BY 4.0 by its repository (https://github.com/OHF-Voice/intents, the Home Assistant
authors) and Apache-2.0 by its wheel's metadata; sentences are drawn from it and names filled in.

A template is one sentence of the package's grammar, such as
`<turn> on [<the>] {area} <light>`; hassil, which parses it, is Apache-2.0 too. Names of areas,
devices and so on are this file's own, since the package leaves them to the home.
"""

import io
import json
import random
import sys
import tempfile
import zipfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from packages import fetch

_INTENTS = (
    "home-assistant-intents==2026.10.27",
    "256eb1e4fc6e6f4943d0ba4e089c9639d74d0e9d62ccddeb7148bc168de55e40",
)
_HASSIL = (
    "hassil==3.12.1",
    "d12553cccf2548a86cfedd28c8f3171690f5e8c064470c2b66170cc5848ecdef",
)
_RBNF = (
    "unicode-rbnf==2.4.1",
    "545a10c40316b49a6f14a1470e51a217c75438569c352abdbc5da11fef273498",
)
_TRIES = 20

AREAS = (
    "kitchen", "living room", "bedroom", "bathroom", "garage", "office", "hallway", "attic",
    "dining room", "guest room", "laundry room", "basement", "nursery", "study", "patio",
    "garden", "master bedroom", "playroom", "pantry", "balcony", "porch", "workshop", "library",
    "closet", "sunroom",
)  # fmt: skip
FLOORS = ("first", "second", "third", "ground", "upper", "lower", "top", "main")
NAMES: Mapping[str, Sequence[str]] = {
    "light": ("ceiling light", "desk lamp", "bedside lamp", "floor lamp", "chandelier",
              "reading light", "night light", "porch light", "light strip", "wall sconce"),
    "switch": ("coffee maker", "kettle", "heater", "christmas tree", "aquarium pump", "printer",
               "toaster", "water heater", "dehumidifier", "outdoor socket"),
    "fan": ("ceiling fan", "tower fan", "desk fan", "exhaust fan", "attic fan"),
    "media_player": ("TV", "soundbar", "smart speaker", "stereo", "record player", "radio",
                     "projector", "receiver"),
    "cover": ("left curtain", "right blind", "big garage door", "roller shutter", "skylight blind",
              "patio awning", "side gate", "bay window shade"),
    "lock": ("front door", "back door", "side door", "cellar door", "shed door", "main gate"),
    "valve": ("sprinkler valve", "water main", "garden tap", "gas valve"),
    "climate": ("thermostat", "air conditioner", "heat pump", "boiler"),
    "binary_sensor": ("motion sensor", "window sensor", "hall sensor", "driveway sensor",
                      "mailbox sensor"),
    "sensor": ("humidity sensor", "outdoor thermometer", "power meter", "air quality sensor"),
    "todo": ("groceries", "chores", "packing", "homework", "weekend", "work"),
    "vacuum": ("robot vacuum", "dusty", "hoover", "roomba"),
    "person": ("Alice", "Bob", "Maria", "John", "Priya", "Ken"),
    "lawn_mower": ("lawn mower", "robot mower", "mowbot"),
    "scene": ("movie night", "dinner party", "good morning", "bedtime"),
    "input_boolean": ("guest mode", "vacation mode", "quiet hours"),
    "weather": ("London", "Paris", "New York", "Tokyo"),
    "button": ("doorbell button", "reboot router", "feed the cat"),
    "input_button": ("reset filter", "ring the bell"),
    "script": ("leaving home", "wake up routine", "watering plan"),
}  # fmt: skip
WILDCARDS: Mapping[str, Sequence[str]] = {
    "message": ("dinner is ready", "the guests have arrived", "time for bed", "the bus is here",
                "we leave in ten minutes", "the laundry is done", "please come downstairs",
                "breakfast is on the table"),
    "search_query": ("abbey road", "the beatles", "bohemian rhapsody", "jazz for dinner",
                     "miles davis", "smooth piano", "the daily", "summer hits",
                     "classical mornings", "dark side of the moon"),
    "zone": ("work", "school", "the gym", "the office", "the park", "town"),
    "timer_name": ("pizza", "laundry", "pasta", "tea", "workout", "bread", "egg", "nap",
                   "chicken", "guitar practice"),
    "timer_command": ("turn off the lights", "open the garage door", "lock the front door",
                      "turn on the heater", "close the blinds"),
    "shopping_list_item": ("milk", "eggs", "bread", "olive oil", "bananas", "rice", "cheese",
                           "coffee", "tomatoes", "dish soap", "butter", "apples"),
    "todo_list_item": ("call the plumber", "water the plants", "pay the rent", "book a flight",
                       "clean the oven", "socks", "sunscreen", "send the report",
                       "buy stamps", "algebra exercises"),
}  # fmt: skip


Slots = tuple[tuple[str, str | int | float], ...]


@dataclass(frozen=True, slots=True)
class Command:
    """A sentence, what it asks for, and the template that it was drawn from."""

    text: str
    intent: str
    slots: Slots
    template: str


def draw_commands(per_template: int, seed: int) -> list[Command]:
    """Up to so many different sentences of every template.

    A sentence that two templates give different meanings has none and is left out.
    """
    data, hassil = _load(), _parser()
    commands: dict[str, set[Command]] = {}
    for intent, number, block, sentence in _templates(data):
        template = f"{intent}/{number}"
        # Its own seed: a new package version with one more template changes no other's.
        order = random.Random(f"{seed} {template} {sentence}")
        sampler = _Sampler(data, hassil, block)
        drawn: dict[str, Command] = {}
        for _ in range(per_template * _TRIES):
            text, slots = sampler.draw(sentence, order)
            drawn.setdefault(text, Command(text, intent, slots, template))
            if len(drawn) == per_template:
                break
        for text, command in drawn.items():
            commands.setdefault(text.lower(), set()).add(command)
    meanings = {
        text: {(each.intent, each.slots) for each in same} for text, same in commands.items()
    }
    return [
        min(same, key=lambda each: each.template)
        for text, same in commands.items()
        if len(meanings[text]) == 1
    ]


def _templates(data: Mapping[str, Any]) -> Iterator[tuple[str, int, Mapping[str, Any], str]]:
    for intent, body in data["intents"].items():
        number = 0
        for block in body["data"]:
            for sentence in block["sentences"]:
                yield intent, number, block, sentence
                number += 1


def _load() -> dict[str, Any]:
    package = zipfile.ZipFile(io.BytesIO(fetch(*_INTENTS)))
    data: dict[str, Any] = json.loads(package.read("home_assistant_intents/data/en.json"))
    return data


def _parser() -> Any:
    """hassil, imported out of its wheel: it is needed here and nowhere else."""
    folder = Path(tempfile.mkdtemp(prefix="hassil-"))
    for number, package in enumerate((_HASSIL, _RBNF)):
        wheel = folder / f"{number}.zip"
        wheel.write_bytes(fetch(*package))
        sys.path.insert(0, str(wheel))
    import hassil

    return hassil


class _Sampler:
    """Draws sentences of one block of templates, and the slots that they fill."""

    def __init__(self, data: Mapping[str, Any], hassil: Any, block: Mapping[str, Any]) -> None:
        self._data = data
        self._hassil = hassil
        self._fixed: dict[str, str] = block.get("slots", {})
        context = block.get("requires_context", {}).get("domain")
        domains = context or [self._fixed.get("domain")]
        known = [name for domain in domains if domain for name in NAMES.get(domain, ())]
        self._names = known or [name for names in NAMES.values() for name in names]

    def draw(self, sentence: str, order: random.Random) -> tuple[str, Slots]:
        """One sentence and its slots, those that the block fixes included."""
        slots: dict[str, str | int | float] = dict(self._fixed)
        parsed = self._hassil.parse_sentence(sentence)
        text = self._say(parsed.expression, slots, order)
        return " ".join(text.split()), tuple(sorted(slots.items()))

    def _say(self, part: Any, slots: dict[str, str | int | float], order: random.Random) -> str:
        match type(part).__name__:
            case "TextChunk":
                return str(part.original_text)
            case "Alternative":
                return self._say(order.choice(part.items), slots, order)
            case "Permutation":
                items = [self._say(item, slots, order) for item in part.items]
                order.shuffle(items)
                return " ".join(items)
            case "Sequence":
                return "".join(self._say(item, slots, order) for item in part.items)
            case "RuleReference":
                rule = self._hassil.parse_sentence(self._data["expansion_rules"][part.rule_name])
                return self._say(rule.expression, slots, order)
            case "ListReference":
                said, value = self._value(part.list_name, order)
                slots[part.slot_name] = value
                return said
        raise ValueError(f"a template holds an unknown part: {part!r}")

    def _value(self, name: str, order: random.Random) -> tuple[str, str | int | float]:
        """Words for a value of a list, and their meaning."""
        own = {"area": AREAS, "floor": FLOORS, "name": self._names} | WILDCARDS
        if name in own:
            said = order.choice(own[name])
            return said, said
        wanted = self._data["lists"][name]
        if (numbers := wanted.get("range")) is not None:
            step = numbers.get("step", 1)
            number = order.randrange(numbers["from"], numbers["to"] + 1, step)
            return str(number), number * numbers.get("multiplier", 1)
        value = order.choice(wanted["values"])
        said = self._say(self._hassil.parse_sentence(value["in"]).expression, {}, order)
        return said, value["out"]
