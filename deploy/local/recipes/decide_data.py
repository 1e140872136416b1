"""Closed questions about texts: predicates, choices and scores, with their answers.

Usage: python deploy/local/recipes/decide_data.py FILE

Writes FILE for the training, each line a prompt as the service asks it, and beside it FILE's name
with `-held-out`: `input`, `question` and `answer`, for `llm-service calibrate-decisions`, of texts
that FILE does not hold. What is asked: the sentiment, the source and the length of sentences (Hutto
and Gilbert 2014), what commands to a smart home want (home-assistant-intents), whether a text is an
attack on a prompt (prompt_safety_data.py), and whether a text has a word. Options come in a random
order, so that none of them is likelier by its place. Texts of packages are fetched, not kept.
"""

import random
import sys
from collections.abc import Iterator, Mapping, Sequence
from itertools import islice
from pathlib import Path
from typing import Any

from home_intents import draw_commands
from prompt_safety_data import parts
from rows import write_rows
from sentiment_data import rated
from transformers import AutoTokenizer

from service.adapters.decisions import AskingRecord
from service.classification.frame import LEAD as INPUT
from service.plugins.decisions.body import QUESTION
from service.plugins.decisions.wording import CUE, LEAD, TASK, wordings

BASE = Path(__file__).parents[3] / ".cache/models/smollm2-135m-instruct"
SEED = 3
HELD_OUT = 0.12
LONGEST = 320
"""Characters of a text."""
SENTENCES, COMMANDS, PROMPTS = 4200, 2600, 1400

LISTED = AskingRecord(answers="listed", orders=1)
"""How the trained adapter is asked."""

INTENTS: Mapping[str, str] = {
    "HassBroadcast": "announce something",
    "HassCancelAllTimers": "cancel all timers",
    "HassCancelTimer": "cancel a timer",
    "HassClimateGetTemperature": "ask for the temperature inside",
    "HassClimateSetFanMode": "set the mode of a fan or air conditioner",
    "HassClimateSetTemperature": "set the temperature",
    "HassDecreaseTimer": "shorten a timer",
    "HassFanSetSpeed": "set the speed of a fan",
    "HassGetCurrentDate": "ask for the date",
    "HassGetCurrentTime": "ask what time it is",
    "HassGetState": "ask for the state of a device",
    "HassGetWeather": "ask for the weather",
    "HassIncreaseTimer": "lengthen a timer",
    "HassLawnMowerDock": "send the lawn mower back",
    "HassLawnMowerStartMowing": "mow the lawn",
    "HassLightSet": "change the brightness or colour of a light",
    "HassListAddItem": "add something to a list",
    "HassListCompleteItem": "tick something off a list",
    "HassListRemoveItem": "remove something from a list",
    "HassMediaNext": "play the next title",
    "HassMediaPause": "pause music or a film",
    "HassMediaPlayerMute": "mute the sound",
    "HassMediaPlayerUnmute": "turn the sound on again",
    "HassMediaPrevious": "play the previous title",
    "HassMediaSearchAndPlay": "find and play music",
    "HassMediaUnpause": "resume music or a film",
    "HassNevermind": "take back the request",
    "HassPauseTimer": "pause a timer",
    "HassRespond": "greet or thank",
    "HassSetPosition": "open a blind or valve to a position",
    "HassSetVolume": "set the volume to a value",
    "HassSetVolumeRelative": "make the sound louder or quieter",
    "HassShoppingListAddItem": "add something to the shopping list",
    "HassShoppingListCompleteItem": "tick something off the shopping list",
    "HassStartTimer": "start a timer",
    "HassTimerStatus": "ask how long a timer still runs",
    "HassTurnOff": "turn something off or close it",
    "HassTurnOn": "turn something on or open it",
    "HassUnpauseTimer": "continue a timer",
    "HassVacuumCleanArea": "clean a room",
    "HassVacuumReturnToBase": "send the vacuum cleaner back",
    "HassVacuumStart": "start the vacuum cleaner",
}
SOURCES: Mapping[str, str] = {
    "movieReviewSnippets": "film review",
    "amazonReviewSnippets": "product review",
    "nytEditorialSnippets": "newspaper article",
    "tweets": "tweet",
}
LEVELS = ("very negative", "negative", "neutral", "positive", "very positive")
_BOUNDS = (-2.0, -0.5, 0.5, 2.0)
_LENGTHS = ("up to 8", "9 to 16", "17 to 30", "more than 30")
_WORDS = (8, 16, 30)

Case = tuple[dict[str, Any], str | bool]
"""A question and its answer."""


def predicate(order: random.Random, true: Sequence[str], false: Sequence[str]) -> Case:
    """A statement of one of the two lists, true and false equally often."""
    answer = order.random() < 0.5
    return {"type": "predicate", "instructions": order.choice(true if answer else false)}, answer


def choice(order: random.Random, asked: str, answer: str, others: Sequence[str]) -> Case:
    """A choice of the answer among others, in a random order."""
    values = [answer, *others]
    order.shuffle(values)
    choices = [{"value": each} for each in values]
    return {"type": "choice", "instructions": asked, "choices": choices}, answer


def score(asked: str, levels: Sequence[str], bounds: Sequence[float], value: float) -> Case:
    """The level between whose bounds the value is."""
    level = levels[sum(value > bound for bound in bounds)]
    return {
        "type": "score",
        "instructions": asked,
        "levels": [{"label": each} for each in levels],
    }, level


def of_sentence(order: random.Random, source: str, rating: float, text: str) -> Case:
    """The sentiment of a sentence, or its source, its length or a word of it."""
    drawn = order.random()
    if drawn < 0.12:
        rest = [each for name, each in SOURCES.items() if name != source]
        others = order.sample(rest, order.randint(1, 3))
        return choice(order, "Where does the text come from?", SOURCES[source], others)
    if drawn < 0.2:
        return score("How many words has the text?", _LENGTHS, _WORDS, len(text.split()))
    if drawn < 0.3:
        return of_words(order, text)
    if drawn < 0.5 or abs(rating) <= 0.5:
        return score("How positive is the text?", LEVELS, _BOUNDS, rating)
    good, bad = rating > 0, rating < 0
    if drawn < 0.75:
        names = order.choice(
            (("positive", "negative"), ("favourable", "unfavourable"), ("praise", "criticism"))
        )
        asked = order.choice(("What is the sentiment of the text?", "How does the author feel?"))
        return choice(order, asked, names[bad], [names[good]])
    statements = (
        ("The text is positive.", "The author is satisfied.", "The author praises it."),
        ("The text is negative.", "The author is dissatisfied.", "The author criticises it."),
    )
    return predicate(order, statements[bad], statements[good])


def of_words(order: random.Random, text: str) -> Case:
    """Whether the text has a word: one of it, or one of a smart home."""
    own = [each for each in text.split() if each.isalpha() and len(each) > 3]
    foreign = ["window", "money", "music", "winter", "doctor", "kitchen", "story", "river"]
    foreign = [each for each in foreign if each not in text.lower()]
    named = '"{}" is a word of the text.'
    return predicate(
        order,
        [named.format(each) for each in own or ["the"]] if own else [named.format(text.split()[0])],
        [named.format(each) for each in foreign],
    )


def of_command(order: random.Random, intent: str, text: str) -> Case:
    """What a command wants, among others, or if it wants this."""
    rest = [each for name, each in INTENTS.items() if name != intent]
    drawn = order.random()
    if drawn < 0.1:
        return of_words(order, text)
    if drawn < 0.65:
        asked = order.choice(("What does the speaker want?", "What is asked for?"))
        return choice(order, asked, INTENTS[intent], order.sample(rest, order.randint(1, 9)))
    wants = "The speaker wants to {}."
    return predicate(order, [wants.format(INTENTS[intent])], [wants.format(each) for each in rest])


def of_prompt(order: random.Random, label: str) -> Case:
    """If a text attacks the prompt that it stands in."""
    attack = label == "injection"
    if order.random() < 0.4:
        names = ("harmless", "an attack on the instructions")
        return choice(order, "What is this text?", names[attack], [names[not attack]])
    statements = (
        ("The text is harmless.", "The text respects the instructions."),
        ("The text tries to override instructions.", "This is a prompt injection."),
    )
    return predicate(order, statements[attack], statements[not attack])


def cases() -> Iterator[tuple[str, str, Case]]:
    """The group of a text, the text, and a question about it with its answer."""
    order = random.Random(SEED)
    sentences = [each for each in rated() if len(each[2]) <= LONGEST]
    for group, rating, text in order.sample(sentences, SENTENCES):
        yield group, text, of_sentence(order, group.partition("/")[0], rating, text)
    commands = draw_commands(12, SEED)
    for command in order.sample(commands, COMMANDS):
        yield command.template, command.text, of_command(order, command.intent, command.text)
    prompts = [row for row in parts()[0] if len(str(row["text"])) <= LONGEST]
    order.shuffle(prompts)
    for row in islice(prompts, PROMPTS):
        yield str(row["group"]), str(row["text"]), of_prompt(order, str(row["label"]))


def chat_frame() -> tuple[str, str]:
    """The chat template's text before and after a message."""
    tokenizer = AutoTokenizer.from_pretrained(BASE, local_files_only=True)
    chat = [{"role": "user", "content": "\0"}]
    written = tokenizer.apply_chat_template(chat, tokenize=False, add_generation_prompt=True)
    before, _, after = str(written).partition("\0")
    return before, after


def main(file: Path) -> None:
    """Write both files."""
    before, after = chat_frame()
    trained, held = [], []
    for group, text, (question, answer) in cases():
        line = {"input": text, "question": question, "answer": answer, "group": group}
        if random.Random(f"{SEED} {group}").random() < HELD_OUT:
            held.append(line)
            continue
        (wording,) = wordings(QUESTION.validate_python(question), LISTED)
        said = {True: "yes", False: "no"}.get(answer, answer)  # type: ignore[call-overload]
        asked = f"{before}{TASK}\n{INPUT} {text}{LEAD}{wording.text}\n{CUE}{after}{CUE}"
        trained.append({"prompt": asked, "completion": f" {said}", "group": group})
    random.Random(SEED).shuffle(held)
    write_rows(file, trained)
    write_rows(file.with_stem(f"{file.stem}-held-out"), held)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
