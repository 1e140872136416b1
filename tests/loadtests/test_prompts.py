"""Prompts of one's own, and lengths by a tokenizer."""

import json
from pathlib import Path
from typing import Any

import pytest
from tokenizers import Tokenizer

from loadtests.load.exact import Exact
from loadtests.load.plan import Plan
from loadtests.load.scenario import ScenarioError, load_scenario
from loadtests.load.text import Message
from tests.classification.bpe import tokenizer
from tests.loadtests.scenarios import scenario

OUTPUT = {"kind": "fixed", "tokens": 4}
TALK = [
    {"from": "system", "value": "Be brief."},
    {"from": "human", "value": "One?"},
    {"from": "gpt", "value": "Two."},
    {"from": "human", "value": "Three?"},
    {"from": "gpt", "value": "Four."},
]
SENT = (
    Message("system", "Be brief."),
    Message("user", "One?"),
    Message("assistant", "Two."),
    Message("user", "Three?"),
)


def asked(text: str, folder: Path) -> set[tuple[Message, ...]]:
    """Conversations that a plan sends of a file of this text."""
    file = folder / "prompts.jsonl"
    file.write_text(text, encoding="utf-8")
    workload = {"kind": "prompts", "path": str(file), "output": OUTPUT}
    plan = Plan(scenario(workloads=[workload]), "base")
    return {plan.call(arrival).messages for arrival in plan.arrivals}


def test_prompts_and_messages_are_sent_as_they_stand(tmp_path: Path) -> None:
    messages = [{"role": "system", "content": "Be kind."}, {"role": "user", "content": "Hi"}]
    rows = [{"prompt": "The sea,\nat night"}, {"messages": messages}]
    assert asked("\n\n".join(map(json.dumps, rows)), tmp_path) == {
        (Message("user", "The sea,\nat night"),),
        (Message("system", "Be kind."), Message("user", "Hi")),
    }


@pytest.mark.parametrize("array", [True, False])
def test_of_sharegpt_the_turns_up_to_the_users_last_are_sent(tmp_path: Path, array: bool) -> None:
    rows: list[Any] = [{"conversations": TALK}, {"conversations": TALK[2:3]}]
    text = json.dumps(rows) if array else "\n".join(map(json.dumps, rows))
    assert asked(text, tmp_path) == {SENT}


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ('{"text": "a"}', "line 2: wanted is a JSON object with `prompt`"),
        ('{"prompt": 3}', 'got {"prompt": 3}'),
        ('{"messages": []}', "line 2: wanted"),
        ('{"messages": [{"role": "user"}]}', "line 2: wanted"),
        ("[1]", "line 2: wanted"),
        ("{", "line 2: not JSON"),
    ],
)
def test_a_line_that_is_no_prompt_is_named(tmp_path: Path, line: str, message: str) -> None:
    file = tmp_path / "mine.jsonl"
    file.write_text('{"prompt": "a"}\n' + line, encoding="utf-8")
    workload = json.dumps([{"kind": "prompts", "path": str(file), "output": OUTPUT}])
    with pytest.raises(ScenarioError, match=r"mine\.jsonl, line 2") as raised:
        load_scenario("smoke", (f"workloads={workload}",))
    assert message in str(raised.value)


def test_a_file_that_is_absent_or_empty_is_named(tmp_path: Path) -> None:
    for name, text, message in (("gone", None, "cannot be read"), ("empty", "", "no prompt")):
        file = tmp_path / name
        if text is not None:
            file.write_text(text)
        workload = json.dumps([{"kind": "prompts", "path": str(file), "output": OUTPUT}])
        with pytest.raises(ScenarioError, match=message):
            load_scenario("smoke", (f"workloads={workload}",))


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A tokenizer that gives common words several tokens."""
    tokenizer("gpt2").save(str(tmp_path / "tokenizer.json"))
    return tmp_path


def test_every_message_has_exactly_its_tokens(folder: Path) -> None:
    lengths = {"kind": "uniform", "low": 1, "high": 300}
    chat = {"kind": "chat", "system_tokens": 33, "input": lengths, "output": OUTPUT}
    document = {"kind": "long_context", "document": lengths, "question_tokens": 7, "output": OUTPUT}
    for workload in (chat, document):
        of = scenario(workloads=[workload], tokenizer=str(folder))
        plan, free = Plan(of, "base"), Plan(of.model_copy(update={"tokenizer": None}), "base")
        count = Tokenizer.from_file(str(folder / "tokenizer.json"))
        for arrival in plan.arrivals[:40]:
            wanted = [len(m.text.split()) for m in free.call(arrival).messages]
            texts = [m.text for m in plan.call(arrival).messages]
            found = [len(count.encode(t, add_special_tokens=False).ids) for t in texts]
            assert found == wanted


def test_a_length_that_no_text_has_is_refused(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Exact, "count", lambda self, text: 2 * len(text.split()))
    assert Exact(folder).fit("a b c", 4) == "a b"
    with pytest.raises(ValueError, match="no text of exactly 3 tokens"):
        Exact(folder).fit("a", 3)


def test_a_folder_without_a_tokenizer_is_named(tmp_path: Path) -> None:
    with pytest.raises(ScenarioError, match=r"tokenizer\.json, got .*gone"):
        load_scenario("smoke", (f"tokenizer={tmp_path / 'gone'}",))
