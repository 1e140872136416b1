"""Tokens and texts of a streamed answer that come at different times."""

import pytest

from service.vllm.patches.parsers import InStep

MARKS = {1: "</think>", 2: "<tool_call>"}
Part = tuple[str, list[int]]


@pytest.mark.parametrize(
    ("given", "gone_on"),
    [
        ([("a", [7]), ("b", [8])], [("a", [7]), ("b", [8])]),
        ([("a", [7]), ("</think>", [1]), ("b", [8])], [("a", [7]), ("</think>", [1]), ("b", [8])]),
        (
            [("a", [7, 1]), ("b</th", [8]), ("ink>", []), ("c", [9])],
            [("a", [7]), ("b", []), ("</think>", [1, 8]), ("c", [9])],
        ),
        # The mark is never shown: nothing of it is lost.
        ([("a", [7, 1]), ("</th", [8]), ("", [])], [("a", [7]), ("", []), ("</th", [1, 8])]),
        (
            [("", [1, 2]), ("</think>", [5]), ("<tool_call>", []), ("x", [])],
            [("", []), ("</think>", [1]), ("<tool_call>", [2, 5]), ("x", [])],
        ),
    ],
)
def test_a_mark_waits_for_its_text_and_nothing_else_does(
    given: list[Part], gone_on: list[Part]
) -> None:
    parts = InStep(MARKS)
    last = len(given) - 1
    assert [
        parts.next(text, ids, last=place == last) for place, (text, ids) in enumerate(given)
    ] == gone_on
