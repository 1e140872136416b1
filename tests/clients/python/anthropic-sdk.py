"""Anthropic's SDK: messages, streams, tools as Claude Code sends them, counts of tokens."""

from anthropic import Anthropic
from tried import JAPAN, MODEL, OSLO, TOOLS, URL, expect, tried

client = Anthropic(base_url=URL, api_key="none")
asked = [{"role": "user", "content": JAPAN}]
kept = {"type": "ephemeral"}


@tried("message")
def message():
    answer = client.messages.create(
        model=MODEL, max_tokens=32, messages=asked, extra_body={"temperature": 0}
    )
    expect(answer.content[0].text, "Tokyo")


@tried("stream")
def stream():
    with client.messages.stream(
        model=MODEL, max_tokens=32, messages=asked, extra_body={"temperature": 0}
    ) as stream:
        expect("".join(stream.text_stream), "Tokyo")


@tried("tool, streamed, and its result (Claude Code)")
def tool():
    options = {
        "model": TOOLS,
        "max_tokens": 64,
        "tools": [
            {
                "name": "get_weather",
                "description": "Weather in a city",
                "input_schema": {
                    "type": "object",
                    "properties": {"city": {"type": "string"}},
                    "required": ["city"],
                },
                "cache_control": kept,
            }
        ],
        "metadata": {"user_id": "user_1"},
        "extra_body": {"temperature": 0},
        "extra_headers": {"anthropic-beta": "claude-code-20250219"},
    }
    question = {"role": "user", "content": [{"type": "text", "text": OSLO, "cache_control": kept}]}
    with client.messages.stream(messages=[question], **options) as stream:
        said = stream.get_final_message()
    (call,) = [block for block in said.content if block.type == "tool_use"]
    assert call.input == {"city": "Oslo"}
    result = {"type": "tool_result", "tool_use_id": call.id, "content": "12 degrees, light rain"}
    answer = client.messages.create(
        messages=[
            question,
            {"role": "assistant", "content": said.content},
            {"role": "user", "content": [result]},
        ],
        **options,
    )
    expect(answer.content[0].text, "light rain")


@tried("count of tokens")
def count():
    assert client.messages.count_tokens(model=MODEL, messages=asked).input_tokens > 10
