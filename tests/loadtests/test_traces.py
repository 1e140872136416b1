"""Loaders of published traces, on rows in their own format."""

from pathlib import Path

import pytest

from loadtests.load.plan import Plan
from loadtests.load.text import shared_tokens
from loadtests.load.traces import Format, TraceError, TraceRow, read_trace
from loadtests.load.workloads import replayed
from tests.loadtests.scenarios import scenario

AZURE = """TIMESTAMP,ContextTokens,GeneratedTokens
2023-11-16 18:15:46.6805900,374,44
2023-11-16 18:15:50.9951690,396,109
2023-11-16 18:15:51.2224670,879,55
"""
BURSTGPT = """Timestamp,Model,Request tokens,Response tokens,Total tokens,Log Type
5,ChatGPT,472,18,490,Conversation log
45,ChatGPT,1087,0,1087,Conversation log
118,GPT-4,417,276,693,Conversation log
"""
MOONCAKE = """{"timestamp": 0, "input_length": 1200, "output_length": 500, "hash_ids": [0, 1, 2]}
{"timestamp": 3000, "input_length": 1100, "output_length": 30, "hash_ids": [0, 1, 9]}
"""


@pytest.mark.parametrize(
    ("form", "text", "rows"),
    [
        ("azure", AZURE, [(0.0, 374, 44), (4.314579, 396, 109), (4.541877, 879, 55)]),
        ("burstgpt", BURSTGPT, [(0.0, 472, 18), (113.0, 417, 276)]),
        ("mooncake", MOONCAKE, [(0.0, 1200, 500), (3.0, 1100, 30)]),
    ],
)
def test_rows_start_at_zero_and_have_an_answer(
    tmp_path: Path, form: Format, text: str, rows: list[tuple[float, int, int]]
) -> None:
    path = tmp_path / "trace"
    path.write_text(text)
    found = read_trace(path, form)
    assert [(r.input_tokens, r.output_tokens) for r in found] == [row[1:] for row in rows]
    assert [r.at for r in found] == pytest.approx([row[0] for row in rows])
    assert read_trace(path, form, limit=1) == found[:1]


@pytest.mark.parametrize(
    ("form", "text", "message"),
    [
        ("azure", "TIMESTAMP,ContextTokens\n2023-11-16 18:15:46,3\n", "row 1 is no azure row"),
        ("mooncake", "{}\n", "row 1 is no mooncake row"),
        ("mooncake", "nonsense\n", "row 1 is no mooncake row"),
        ("burstgpt", "Timestamp,Request tokens,Response tokens\n", "holds no burstgpt request"),
    ],
)
def test_what_is_no_trace_is_named(tmp_path: Path, form: Format, text: str, message: str) -> None:
    path = tmp_path / "trace"
    path.write_text(text)
    with pytest.raises(TraceError, match=message):
        read_trace(path, form)


def test_a_missing_trace_is_named(tmp_path: Path) -> None:
    with pytest.raises(TraceError, match="cannot be read"):
        read_trace(tmp_path / "none", "azure")


def test_a_replay_keeps_arrivals_and_lengths(tmp_path: Path) -> None:
    path = tmp_path / "trace"
    path.write_text(AZURE)
    load = {
        "kind": "replay",
        "path": str(path),
        "format": "azure",
        "duration_s": 2.2,
        "speed": 2.0,
        "scale": 0.5,
    }
    plan = Plan(scenario(load=load), "base")
    assert [a.at for a in plan.arrivals] == pytest.approx([0.0, 2.157289])
    calls = [plan.call(arrival) for arrival in plan.arrivals]
    assert [len(call.messages[0].text.split()) for call in calls] == [187, 198]
    assert [call.max_tokens for call in calls] == [22, 54]
    assert plan.offered() == {"replay": 2}


def test_traced_blocks_are_shared_by_their_hash() -> None:
    rows = [TraceRow(0, 1200, 5, (0, 1, 2)), TraceRow(1, 1100, 5, (0, 1, 9))]
    prompts = [
        replayed(3, index, row.input_tokens, row.blocks, 512).user for index, row in enumerate(rows)
    ]
    assert shared_tokens(list(prompts)) == (1024, 2300)
