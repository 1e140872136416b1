"""Schemas that programs write, and those of JSON Schema's own test suite: no answer breaks one.

`make test-schemas` runs it: 335 schemas with 20 answers each of the real model take a quarter of
an hour, and the suite comes with the source of the package jsonschema, which pip fetches.
"""

import json
import subprocess
import sys
import tarfile
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import httpx
import pytest

from service.schemas.parts import TooLarge
from service.schemas.rewrite import Unresolved
from service.vllm.grammar_text import Impossible, write_schema
from tests.schemas.corpus import CORPUS
from tests.schemas.grammars import accepts, compiled, is_valid, parse
from tests.schemas.test_corpus import EMPTY
from tests.served.server import Server

pytestmark = pytest.mark.schemas
SUITE = "jsonschema==4.26.0"
ASKED = 20


@pytest.fixture(scope="module")
def suite(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("suite")
    fetch = [sys.executable, "-m", "pip", "download", "-q", "--no-deps", "--no-binary", ":all:"]
    subprocess.run([*fetch, "--dest", str(folder), SUITE], check=True)
    (archive,) = folder.glob("*.tar.gz")
    with tarfile.open(archive) as packed:
        packed.extractall(folder, filter="data")
    (tests,) = folder.glob("*/json/tests/draft2020-12")
    return tests


def _groups(suite: Path) -> Iterator[tuple[str, dict[str, Any]]]:
    for file in sorted(suite.glob("*.json")):
        for group in json.loads(file.read_text()):
            yield file.stem, group


def test_no_grammar_of_the_suite_accepts_what_is_invalid(suite: Path) -> None:
    told: Counter[str] = Counter()
    wrong = []
    for name, group in _groups(suite):
        schema = group["schema"]
        try:
            written = write_schema(schema, any_whitespace=False)
        except (Impossible, TooLarge, Unresolved, ValueError) as error:
            told[f"refused: {type(error).__name__}"] += 1
            continue
        told["checked in part" if written.unenforced else "in the grammar"] += 1
        if written.unenforced:
            continue
        grammar = compiled(schema)
        for case in group["tests"]:
            if not case["valid"] and accepts(grammar, case["data"]):
                wrong.append((name, group["description"], case["description"]))
    sys.stderr.write(f"{dict(told)}\n")
    assert wrong == []


def _ask(server: Server, name: str) -> tuple[str, list[str], int]:
    """The name, the answers that break the schema, and the number of those that ended."""
    schema = CORPUS[name]
    form = {"type": "json_schema", "json_schema": {"name": "a", "schema": schema, "strict": True}}
    asked = {
        "model": server.model,
        "messages": [{"role": "user", "content": "Answer in JSON."}],
        "response_format": form,
        "temperature": 1.5,
        "n": ASKED // 2,
        "max_tokens": 160,
    }
    broken, ended = [], 0
    for seed in (1, 2):
        url = f"{server.url}/v1/chat/completions"
        answer = httpx.post(url, json=asked | {"seed": seed}, timeout=600)
        if answer.status_code != 200:
            return name, [answer.text], 0
        for choice in answer.json()["choices"]:
            if choice["finish_reason"] == "stop":
                ended += 1
                text = choice["message"]["content"]
                if not is_valid(schema, parse(text)):
                    broken.append(text)
    return name, broken, ended


def test_no_answer_of_the_real_model_breaks_its_schema(smollm2: Server) -> None:
    names = sorted(CORPUS.keys() - EMPTY)
    with ThreadPoolExecutor(8) as pool:
        found = list(pool.map(lambda name: _ask(smollm2, name), names))
    ended = sum(count for *_, count in found)
    sys.stderr.write(f"{len(found)} schemas, {ended} answers that ended\n")
    assert [(name, broken) for name, broken, _ in found if broken] == []
