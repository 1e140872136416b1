"""The items of a response's input as messages of a chat."""

from typing import Any

import pytest

from service.openai.body import read_body
from service.plugins.responses.body import ResponseBody
from service.settings.limits import LimitSettings

USER = {"role": "user", "content": "Hi"}


def said(*parts: Any, **fields: Any) -> dict[str, Any]:
    """An item of what the assistant said."""
    return {"type": "message", "role": "assistant", "content": list(parts)} | fields


def text(value: str, kind: str = "output_text") -> dict[str, Any]:
    return {"type": kind, "text": value}


def call(number: int) -> dict[str, Any]:
    return {"type": "function_call", "call_id": f"call_{number}", "name": "f", "arguments": "{}"}


def called(number: int) -> dict[str, Any]:
    function = {"name": "f", "arguments": "{}"}
    return {"id": f"call_{number}", "type": "function", "function": function}


def result(output: Any) -> dict[str, Any]:
    return {"type": "function_call_output", "call_id": "call_1", "output": output}


def thought(**fields: Any) -> dict[str, Any]:
    return {"type": "reasoning", "id": "rs_1"} | fields


def read(*items: Any) -> Any:
    body = {"model": "m", "input": list(items)}
    return read_body(ResponseBody, body, LimitSettings(), 2048)[0].chat()


@pytest.mark.parametrize(
    ("items", "messages"),
    [
        ([USER], [USER]),
        (
            [{"role": "developer", "content": [text("a", "input_text"), text("b")]}],
            [
                {
                    "role": "developer",
                    "content": [{"type": "text", "text": "a"}, {"type": "text", "text": "b"}],
                }
            ],
        ),
        (
            [said(text("a"), {"type": "refusal", "refusal": "b"})],
            [{"role": "assistant", "content": "ab"}],
        ),
        ([said()], [{"role": "assistant", "content": ""}]),
        (
            [thought(content=[text("a", "reasoning_text"), text("b", "reasoning_text")])],
            [{"role": "assistant", "reasoning": "ab"}],
        ),
        (
            [thought(content=[], summary=[text("a", "summary_text")])],
            [{"role": "assistant", "reasoning": "a"}],
        ),
        (
            [thought(summary=[{"text": "t"}]), said(text("a")), call(1), call(2), result("r")],
            [
                {
                    **{"role": "assistant", "reasoning": "t", "content": "a"},
                    "tool_calls": [called(1), called(2)],
                },
                {"role": "tool", "tool_call_id": "call_1", "content": "r"},
            ],
        ),
        (
            [said(text("a")), said(text("b")), USER, call(1)],
            [
                {"role": "assistant", "content": "a"},
                {"role": "assistant", "content": "b"},
                USER,
                {"role": "assistant", "tool_calls": [called(1)]},
            ],
        ),
        (
            [result([text("a", "input_text")])],
            [
                {
                    **{"role": "tool", "tool_call_id": "call_1"},
                    "content": [{"type": "text", "text": "a"}],
                }
            ],
        ),
    ],
)
def test_items_become_messages(items: list[Any], messages: list[Any]) -> None:
    assert read(*items).messages == messages


@pytest.mark.parametrize(
    ("last", "goes_on"),
    [
        (said(text("It"), status="incomplete"), True),
        (said(text("It"), status="in_progress"), True),
        (said(text("It"), status="completed"), False),
        (said(text("It")), False),
        (call(1) | {"status": "incomplete"}, False),
    ],
)
def test_an_answer_goes_on_with_what_is_not_complete(last: Any, goes_on: bool) -> None:
    chat = read(USER, last)
    assert chat.continue_final_message is goes_on
    assert chat.add_generation_prompt is not goes_on
