"""How a question is written for a language model: its text, and the words of its answers."""

import string
from collections.abc import Sequence
from dataclasses import dataclass

from service.adapters.decisions import MOST_LETTERS, AskingRecord
from service.plugins.decisions.body import Asking, Level, Option, Predicate, Score, answers_of

TASK = "Read the text and answer the question about it."
LEAD = "\n\nQuestion:"
"""What every question begins with, after the input."""
CUE = "Answer:"


@dataclass(frozen=True, slots=True)
class Wording:
    """One way to ask a question: its text after LEAD, and what the model may say.

    `words[i]` stands for the possible answer `order[i]` of the question.
    """

    text: str
    words: tuple[str, ...]
    order: tuple[int, ...]


def wordings(question: Asking, how: AskingRecord) -> list[Wording]:
    """All ways in which a question is asked; its answer is their average."""
    answers = answers_of(question)
    shown = any(each.description for each in answers)
    if how.answers == "unlisted" and not shown:
        words = tuple(each.word for each in answers)
        return [Wording(f" {_asked(question)}", words, tuple(range(len(answers))))]
    letters = how.answers == "letters" and len(answers) <= MOST_LETTERS
    found = []
    for order in _orders(question, len(answers), how.orders):
        listed = [answers[place] for place in order]
        if letters:
            words = tuple(string.ascii_uppercase[: len(listed)])
            found.append(Wording(_under_letters(question, listed), words, order))
        else:
            words = tuple(each.word for each in listed)
            found.append(Wording(_listed(question, listed), words, order))
    return found


def _orders(question: Asking, count: int, most: int) -> list[tuple[int, ...]]:
    """Rotations, evenly spaced; levels are turned around, since their order has a meaning."""
    first = tuple(range(count))
    if isinstance(question, Score):
        return [first, first[::-1]][:most]
    wanted = min(most, count)
    starts = [turn * count // wanted for turn in range(wanted)]
    return [first[start:] + first[:start] for start in starts]


def _asked(question: Asking) -> str:
    return f"Is this true? {question.text}" if isinstance(question, Predicate) else question.text


def _listed(question: Asking, listed: Sequence[Option | Level]) -> str:
    if isinstance(question, Predicate):
        yes_or_no = " or ".join(each.word for each in listed)
        return f" {_asked(question)} ({yes_or_no})"
    lead = "One of"
    if isinstance(question, Score):
        lead = f"Levels, the {'lowest' if listed[0] == question.levels[0] else 'highest'} first"
    lines = "\n".join(f"- {_described(each)}" for each in listed)
    return f" {question.text}\n{lead}:\n{lines}"


def _under_letters(question: Asking, listed: Sequence[Option | Level]) -> str:
    lines = "\n".join(
        f"{letter}. {_described(each)}"
        for letter, each in zip(string.ascii_uppercase, listed, strict=False)
    )
    return f" {_asked(question)}\n{lines}"


def _described(answer: Option | Level) -> str:
    return f"{answer.word}: {answer.description}" if answer.description else answer.word
