"""Functions, and sentences that ask for them, drawn from templates of this file.

A function is shown under one of several names, with one of several names for each parameter, so
that its call has to be read from what is shown. Brackets in a template are said or left out, by
chance. The templates with numbers n and n + 12 of every function belong to group n: a group that
training does not see has new sentences for every function.
"""

import random
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

Schema = Mapping[str, Any]
TEXT: Schema = {"type": "string"}
WHOLE: Schema = {"type": "integer"}
NUMBER: Schema = {"type": "number"}
SWITCH: Schema = {"type": "boolean"}

CITIES = (
    "Oslo", "Paris", "Rome", "Lisbon", "Berlin", "Vienna", "Madrid", "Prague", "Dublin", "Athens",
    "Tokyo", "Osaka", "Seoul", "Delhi", "Cairo", "Lagos", "Nairobi", "Lima", "Bogota", "Quito",
    "Boston", "Chicago", "Denver", "Seattle", "Toronto", "Montreal", "Sydney", "Perth", "Geneva",
    "Milan", "Porto", "Krakow", "Riga", "Helsinki", "Bergen", "Naples", "Hanoi", "San Diego",
)  # fmt: skip
DAYS = ("today", "tomorrow", "Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday",
        "Sunday")  # fmt: skip
PEOPLE = ("Anna", "Ben", "Carla", "David", "Emma", "Farid", "Grace", "Hugo", "Ines", "Jonas",
          "Kofi", "Lena", "Marco", "Nadia", "Omar", "Paula", "Ravi", "Sofia", "Tom", "Yuki",
          "my sister", "the landlord", "Doctor Weber")  # fmt: skip
MESSAGES = ("I am running late", "dinner is at eight", "the train is delayed", "see you tomorrow",
            "happy birthday", "the meeting moved to noon", "please call me back", "I am home",
            "thanks for the flowers", "the keys are under the mat", "good luck with the exam",
            "we are out of coffee", "bring an umbrella", "the parcel has arrived")  # fmt: skip
CURRENCIES = ("euros", "dollars", "pounds", "yen", "francs")
TITLES = ("dentist", "team meeting", "yoga class", "lunch with Anna", "piano lesson", "book club",
          "car inspection", "parent evening", "haircut", "budget review", "board game night",
          "flu shot", "football training", "interview with Ravi")  # fmt: skip
TIMES = ("08:00", "09:15", "10:30", "11:00", "12:45", "14:00", "15:30", "16:20", "18:00", "19:45")
PHRASES = ("good morning", "where is the station", "thank you very much", "how much is this",
           "I would like a coffee", "the weather is nice", "see you soon", "one ticket please",
           "what is your name", "the bill please", "I am lost", "open the window")  # fmt: skip
LANGUAGES = ("French", "German", "Spanish", "Italian", "Japanese", "Polish", "Swedish", "Dutch",
             "Portuguese", "Korean")  # fmt: skip
ARTISTS = ("Miles Davis", "Nina Simone", "the Beatles", "Mozart", "Adele", "Bob Marley", "Bach",
           "Queen", "Daft Punk", "Fela Kuti", "Chopin", "Aretha Franklin")  # fmt: skip
CUISINES = ("Thai", "Italian", "Mexican", "Indian", "Greek", "Korean", "Lebanese", "Ethiopian",
            "vegan", "Vietnamese")  # fmt: skip
ITEMS = ("milk", "eggs", "sunscreen", "olive oil", "a phone charger", "bread", "socks", "rice",
         "toothpaste", "apples", "a raincoat", "candles", "batteries", "cheese")  # fmt: skip
LISTS = ("shopping", "packing", "birthday", "camping")
ROOMS = ("kitchen", "bedroom", "office", "garage", "hallway", "bathroom", "attic", "living room",
         "nursery", "cellar")  # fmt: skip
LABELS = ("pasta", "tea", "laundry", "nap", "pizza", "workout", "eggs", "bread")


@dataclass(frozen=True, slots=True)
class Parameter:
    """A parameter under its possible names; `said` and `meant` are its values in order."""

    names: Sequence[str]
    schema: Schema
    said: Sequence[str]
    meant: Sequence[Any]
    required: bool = True


@dataclass(frozen=True, slots=True)
class Function:
    """A function under its possible names, and the templates of sentences that ask for it."""

    names: Sequence[str]
    description: str
    parameters: Mapping[str, Parameter]
    templates: Sequence[str]
    result: str


def _text(*names: str, of: Sequence[str], required: bool = True) -> Parameter:
    return Parameter(names, TEXT, of, of, required)


def _enum(*names: str, of: Sequence[str]) -> Parameter:
    return Parameter(names, {"type": "string", "enum": list(of)}, of, of)


def _count(*names: str, of: range, required: bool = True) -> Parameter:
    return Parameter(names, WHOLE, [str(each) for each in of], of, required)


_AMOUNTS = (5, 12.5, 20, 35, 49.9, 75, 100, 120, 250, 399.5, 640, 1200)

FUNCTIONS = (
    Function(
        ("get_weather", "weather_forecast", "lookup_weather"),
        "Weather in a city",
        {
            "city": _text("city", "location", "place", of=CITIES),
            "day": _text("day", "date", of=DAYS, required=False),
        },
        (
            "What is the weather in {city}?", "How is the weather in {city}[ {day}]?",
            "Will it rain in {city}[ {day}]?", "Tell me the forecast for {city}.",
            "Do I need a coat in {city}[ {day}]?",
            "I want to know the weather in {city}[ for {day}].", "Is it sunny in {city}?",
            "Weather for {city}[ {day}] please.", "Check whether it snows in {city}[ {day}].",
            "How warm is it in {city}?", "What will the sky over {city} look like[ {day}]?",
            "Give me {city}'s weather.", "What's the weather like in {city}[ {day}]?",
            "Weather in {city}, please.", "Is it going to be cold in {city}[ {day}]?",
            "I am going to {city}, how is the weather there?",
            "Will the sun shine in {city}[ {day}]?", "Should I take an umbrella to {city}[ {day}]?",
            "Any rain in {city}[ {day}]?", "Show me the weather report for {city}.",
            "What temperature does {city} have[ {day}]?",
            "Look up the weather of {city}[ for {day}].",
            "Does it storm in {city}[ {day}]?", "How hot does it get in {city}[ {day}]?",
        ),
        "{number} degrees, light rain",
    ),
    Function(
        ("set_timer", "start_timer", "create_timer"),
        "Start a timer",
        {
            "minutes": _count("minutes", "duration_minutes", of=range(1, 95)),
            "label": _text("label", "name", of=LABELS, required=False),
        },
        (
            "Set a timer for {minutes} minutes.", "Start a {minutes} minute timer[ for {label}].",
            "Wake me in {minutes} minutes.", "Timer, {minutes} minutes[, for the {label}].",
            "I need a timer of {minutes} minutes[ named {label}].", "Count down {minutes} minutes.",
            "Please time {minutes} minutes[ for the {label}].", "Remind me in {minutes} minutes.",
            "Give the {label} {minutes} minutes.", "Let a timer run for {minutes} minutes.",
            "Can you start a timer[ called {label}] for {minutes} minutes?",
            "Ring after {minutes} minutes.",
            "Start a timer of {minutes} minutes.",
            "Put {minutes} minutes on the timer[ for the {label}].",
            "I want a {minutes} minute timer.",
            "{minutes} minutes[ for the {label}], starting now.",
            "Tell me when {minutes} minutes are over.",
            "Set the[ {label}] timer to {minutes} minutes.",
            "Make a timer[ called {label}], {minutes} minutes.",
            "Let me know in {minutes} minutes.",
            "The {label} takes {minutes} minutes, start a timer.",
            "Begin a countdown of {minutes} minutes.",
            "A timer[ for {label}] please, {minutes} minutes.", "Alert me in {minutes} minutes.",
        ),
        "timer {number} is running",
    ),
    Function(
        ("send_message", "send_text", "message_contact"),
        "Send a message to a person",
        {
            "person": _text("recipient", "to", "contact", of=PEOPLE),
            "text": _text("text", "message", "body", of=MESSAGES),
        },
        (
            "Send {person} the message: {text}", "Tell {person} that {text}.",
            "Write to {person}: {text}", "Text {person} \"{text}\".",
            "Let {person} know that {text}.", "Message {person} saying {text}.",
            "Could you tell {person} {text}?", "Send \"{text}\" to {person}.",
            "Please inform {person} that {text}.", "I want {person} to read: {text}",
            "Drop {person} a line: {text}", "Pass this on to {person}: {text}",
            "Please write {person} that {text}.", "Message to {person}: {text}.",
            "Say to {person} that {text}.", "Send a text to {person}: \"{text}\".",
            "Can you let {person} know {text}?", "Send word to {person} that {text}.",
            "{person} should know that {text}.", "Give {person} this message: {text}.",
            "Text {person} that {text}.", "Write \"{text}\" to {person}.",
            "I need to tell {person} that {text}.", "Contact {person} and say \"{text}\".",
        ),
        "sent, number {number}",
    ),
    Function(
        ("convert_currency", "exchange", "convert_money"),
        "Convert an amount of money",
        {
            "amount": Parameter(
                ("amount", "value"), NUMBER, [f"{each:g}" for each in _AMOUNTS], _AMOUNTS
            ),
            "source": _enum("from", "source", "from_currency", of=CURRENCIES),
            "target": _enum("to", "target", "to_currency", of=CURRENCIES),
        },
        (
            "Convert {amount} {source} to {target}.", "How much is {amount} {source} in {target}?",
            "What are {amount} {source} in {target}?", "Change {amount} {source} into {target}.",
            "I have {amount} {source}, how many {target} is that?",
            "{amount} {source} in {target} please.", "Exchange {amount} {source} for {target}.",
            "How many {target} do I get for {amount} {source}?",
            "Tell me the value of {amount} {source} in {target}.",
            "Turn {amount} {source} into {target}.", "Calculate {amount} {source} as {target}.",
            "If I pay {amount} {source}, what is it in {target}?",
            "What would {amount} {source} be in {target}?",
            "Give me {amount} {source} in {target}.",
            "How much are {amount} {source} worth in {target}?",
            "Convert {amount} {source} to {target} for me.",
            "I need {amount} {source} converted into {target}.",
            "How many {target} are {amount} {source}?", "Swap {amount} {source} for {target}.",
            "From {source} to {target}: {amount}.", "What do {amount} {source} make in {target}?",
            "Work out {amount} {source} in {target}.", "{amount} {source} are how many {target}?",
            "Show me {amount} {source} in {target}.",
        ),
        "that is {number}",
    ),
    Function(
        ("create_event", "add_event", "schedule_event"),
        "Put an event into the calendar",
        {
            "title": _text("title", "event", "summary", of=TITLES),
            "day": _text("day", "date", of=DAYS),
            "time": _text("time", "start", of=TIMES, required=False),
        },
        (
            "Add {title} to my calendar for {day}.", "Schedule {title} on {day}[ at {time}].",
            "Put {title} into the calendar, {day}[ at {time}].", "Plan {title} for {day}.",
            "I have {title} {day}[ at {time}], write it down.", "Create an event: {title}, {day}.",
            "Enter {title} for {day}[ at {time}].", "Book {title} {day}[, {time}].",
            "Mark {title} in my calendar on {day}.",
            "Make an appointment, {title}, {day}[ {time}].",
            "On {day}[ at {time}] there is {title}, save it.", "Note {title} on {day} please.",
            "Put {title} on {day} into my calendar.",
            "I need {title} in the calendar for {day}[ at {time}].",
            "Please schedule {title} for {day}.",
            "{title}, {day}[ at {time}], put it into the calendar.",
            "New event: {title} on {day}[ at {time}].", "Set up {title} for {day}[ at {time}].",
            "Write down {title} for {day}.", "Arrange {title} for {day}[ at {time}].",
            "There is {title} on {day}, add it.", "Block {day}[ at {time}] for {title}.",
            "Save the date: {title}, {day}.", "My calendar needs {title} on {day}[ at {time}].",
        ),
        "saved as entry {number}",
    ),
    Function(
        ("translate", "translate_text"),
        "Translate a text",
        {
            "text": _text("text", "phrase", "input", of=PHRASES),
            "language": _text("language", "target_language", of=LANGUAGES),
        },
        (
            "Translate \"{text}\" into {language}.", "How do you say \"{text}\" in {language}?",
            "What is \"{text}\" in {language}?", "Say \"{text}\" in {language}.",
            "I need \"{text}\" in {language}.", "Put \"{text}\" into {language} please.",
            "Give me the {language} for \"{text}\".", "\"{text}\", in {language} please.",
            "Write \"{text}\" in {language}.", "How would one say \"{text}\" in {language}?",
            "Turn \"{text}\" into {language}.", "Tell me \"{text}\" in {language}.",
            "Can you translate \"{text}\" to {language}?", "Translate into {language}: \"{text}\".",
            "I want to say \"{text}\" in {language}.", "\"{text}\" in {language}?",
            "Please render \"{text}\" in {language}.", "What does \"{text}\" become in {language}?",
            "Show me the {language} words for \"{text}\".", "Express \"{text}\" in {language}.",
            "How is \"{text}\" said in {language}?", "Change \"{text}\" into {language}.",
            "Help me say \"{text}\" in {language}.", "Into {language}, please: \"{text}\".",
        ),
        "translation number {number} is ready",
    ),
    Function(
        ("play_music", "play_artist", "start_music"),
        "Play music of an artist",
        {
            "artist": _text("artist", "performer", of=ARTISTS),
            "volume": _count("volume", "loudness", of=range(5, 100), required=False),
        },
        (
            "Play {artist}.", "Play some {artist}[ at volume {volume}].", "Put on {artist}.",
            "I want to hear {artist}.", "Start {artist}[ at {volume} percent volume].",
            "Can you play music of {artist}?", "Let me listen to {artist}[, volume {volume}].",
            "Some {artist} please.", "Play something by {artist}.", "Music: {artist}[, {volume}].",
            "Turn on songs by {artist}[ with the volume at {volume}].", "How about some {artist}?",
            "Play a song by {artist}.", "I feel like {artist} today.",
            "Let's hear {artist}[ at volume {volume}].", "Start playing {artist}.",
            "Play {artist}[ with volume {volume}].", "Could we listen to {artist}?",
            "Put {artist} on[ at volume {volume}].", "I would love some {artist}.",
            "Give me {artist}[, {volume} percent loud].", "Play me {artist}.",
            "Turn {artist} on[, volume {volume}].", "Music by {artist} please.",
        ),
        "playing track {number}",
    ),
    Function(
        ("find_restaurant", "search_restaurants", "restaurant_search"),
        "Find a restaurant",
        {
            "cuisine": _text("cuisine", "food", "kind", of=CUISINES),
            "city": _text("city", "location", "where", of=CITIES),
        },
        (
            "Find a {cuisine} restaurant in {city}.", "Where can I eat {cuisine} food in {city}?",
            "I am hungry for {cuisine} food in {city}.", "Search {cuisine} places in {city}.",
            "Is there a good {cuisine} restaurant in {city}?", "{cuisine} dinner in {city} please.",
            "Look for {cuisine} cooking in {city}.", "Recommend {cuisine} food in {city}.",
            "Which {cuisine} restaurants are there in {city}?", "Show me {cuisine} food in {city}.",
            "We are in {city} and want {cuisine} food.", "Any {cuisine} kitchen in {city}?",
            "I would like {cuisine} food in {city}.", "Is there {cuisine} food in {city}?",
            "Find me {cuisine} food in {city}.", "Which place in {city} serves {cuisine} food?",
            "I am in {city}, find a {cuisine} restaurant.",
            "Where is a {cuisine} restaurant in {city}?",
            "Tonight I want to eat {cuisine} in {city}.",
            "Suggest a {cuisine} restaurant in {city}.",
            "A table in a {cuisine} restaurant in {city}, please.",
            "Get me a {cuisine} place in {city}.",
            "{city} must have a {cuisine} restaurant, find it.",
            "Let us eat {cuisine} food in {city}.",
        ),
        "table {number} at Corner House is free",
    ),
    Function(
        ("add_to_list", "add_item", "put_on_list"),
        "Add an item to a list",
        {
            "item": _text("item", "entry", "thing", of=ITEMS),
            "list": _enum("list", "list_name", of=LISTS),
        },
        (
            "Add {item} to the {list} list.", "Put {item} on my {list} list.",
            "Write {item} on the {list} list.", "The {list} list needs {item}.",
            "Note {item} for the {list} list.", "I need {item}, add it to the {list} list.",
            "{item} goes on the {list} list.", "Please put {item} onto the {list} list.",
            "Include {item} in the {list} list.", "Save {item} to the list for {list}.",
            "On the {list} list, add {item}.", "Don't let me forget {item}, {list} list.",
            "Add {item} to my {list} list.", "Can you put {item} on the {list} list?",
            "My {list} list is missing {item}.", "We need {item}, write it on the {list} list.",
            "Please note {item} on my {list} list.", "List {item} under {list}.",
            "Enter {item} in the {list} list.", "Remember {item} for the {list} list.",
            "{item} belongs on the {list} list.", "One more for the {list} list: {item}.",
            "The {list} list should have {item}.", "Jot down {item} on the {list} list.",
        ),
        "the list has {number} entries",
    ),
    Function(
        ("set_light", "switch_light", "control_light"),
        "Switch the light of a room",
        {
            "room": _text("room", "area", of=ROOMS),
            "on": Parameter(("on", "state"), SWITCH, ("on", "off"), (True, False)),
        },
        (
            "Turn {on} the light in the {room}.", "Switch the {room} light {on}.",
            "Light {on} in the {room}.", "Please turn the {room} light {on}.",
            "I want the light in the {room} {on}.", "{room} light {on}.",
            "Can you switch {on} the lamp in the {room}?", "Make the light {on} in the {room}.",
            "Turn the lights of the {room} {on}.", "The {room} light should be {on}.",
            "Set the light to {on} in the {room}.", "Put the {room} light {on}.",
            "Switch {on} the light in the {room}.", "The light in the {room} should go {on}.",
            "Turn the light {on} in the {room}.", "Can you turn the {room} lights {on}?",
            "Lights {on} in the {room}, please.", "I need the {room} light {on}.",
            "Switch the lamp in the {room} {on}.", "In the {room}, turn the light {on}.",
            "Flip the {room} light {on}.", "Get the {room} light {on}.",
            "Make sure the {room} light is {on}.", "{on} with the light in the {room}.",
        ),
        "done, {number} lamps",
    ),
)  # fmt: skip

OTHER = (
    "Hello!", "Who are you?", "Tell me a joke.", "What is two plus two?", "Good night.",
    "Why is the sky blue?", "Write a poem about the sea.", "How are you today?",
    "What is the capital of France?", "Thanks, that was all.", "Explain what a prime number is.",
    "Sing me a song.", "Who wrote Hamlet?", "What is your favourite colour?", "Hi there.",
    "How old is the universe?", "Give me a riddle.", "What does a compiler do?", "I am bored.",
    "Summarise the news.", "How do I cook an egg?", "Is there life on Mars?", "You are great.",
    "Count to five.",
)  # fmt: skip
GROUPS = 12
_SAID = 0.6  # of what stands in brackets


@dataclass(frozen=True, slots=True)
class Shown:
    """A function under one of its names, as a request shows it to the model."""

    function: Function
    name: str
    names: Mapping[str, str]

    def tool(self) -> dict[str, Any]:
        """The entry of a request's `tools`."""
        parameters = self.function.parameters
        schema = {
            "type": "object",
            "properties": {self.names[key]: dict(each.schema) for key, each in parameters.items()},
            "required": [self.names[key] for key, each in parameters.items() if each.required],
        }
        described = {"name": self.name, "description": self.function.description}
        return {"type": "function", "function": described | {"parameters": schema}}

    def ask(self, group: int, order: random.Random) -> tuple[str, dict[str, Any]]:
        """A sentence of a group, and the call that it asks for."""
        full = order.choice(self.function.templates[group::GROUPS])
        template = re.sub(r"\[(.*?)\]", r"\1" if order.random() < _SAID else "", full)
        said: dict[str, str] = {}
        arguments: dict[str, Any] = {}
        for key, parameter in self.function.parameters.items():
            if f"{{{key}}}" in template:
                free = [n for n, text in enumerate(parameter.said) if text not in said.values()]
                at = order.choice(free)
                said[key], arguments[self.names[key]] = parameter.said[at], parameter.meant[at]
        text = template.format(**said)
        return text[0].upper() + text[1:], {"name": self.name, "arguments": arguments}


def shown(function: Function, order: random.Random) -> Shown:
    """The function under names drawn for it."""
    names = {key: order.choice(each.names) for key, each in function.parameters.items()}
    return Shown(function, order.choice(function.names), names)
