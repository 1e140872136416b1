"""OpenAI's SDK: chats, streams, parsed answers, tools, Responses as Codex sends them, decisions."""

import json

from openai import OpenAI
from pydantic import BaseModel, Field
from tried import DECIDE, FILM, JAPAN, MODEL, OSLO, SENTIMENT, TOOLS, URL, expect, tried

client = OpenAI(base_url=f"{URL}/v1", api_key="none")
asked = [{"role": "user", "content": JAPAN}]
weather = {
    "name": "get_weather",
    "description": "Weather in a city",
    "parameters": {
        "type": "object",
        "properties": {"city": {"type": "string"}},
        "required": ["city"],
    },
}


class Place(BaseModel):
    city: str = Field(max_length=20)
    country: str = Field(max_length=20)


@tried("chat")
def chat():
    answer = client.chat.completions.create(model=MODEL, messages=asked, temperature=0)
    expect(answer.choices[0].message.content, "Tokyo")


@tried("stream with usage")
def stream():
    options = {"stream": True, "stream_options": {"include_usage": True}}
    chunks = list(
        client.chat.completions.create(model=MODEL, messages=asked, temperature=0, **options)
    )
    expect("".join(c.choices[0].delta.content or "" for c in chunks if c.choices), "Tokyo")
    assert chunks[-1].usage.completion_tokens > 0


@tried("parsed answer")
def parsed():
    answer = client.chat.completions.parse(
        model=MODEL, messages=asked, temperature=0, response_format=Place
    )
    assert isinstance(answer.choices[0].message.parsed, Place)


@tried("tool call, streamed")
def tool():
    with client.chat.completions.stream(
        model=TOOLS,
        messages=[{"role": "user", "content": OSLO}],
        tools=[{"type": "function", "function": weather}],
        temperature=0,
    ) as stream:
        call = stream.get_final_completion().choices[0].message.tool_calls[0]
    assert json.loads(call.function.arguments) == {"city": "Oslo"}


@tried("completion with log-probabilities")
def completion():
    answer = client.completions.create(model=MODEL, prompt="The sea is", max_tokens=4, logprobs=2)
    assert len(answer.choices[0].logprobs.token_logprobs) == 4


@tried("response, streamed, with a tool (Codex)")
def response():
    with client.responses.stream(
        model=TOOLS,
        instructions="You are a coding agent.",
        input=[{"role": "user", "content": [{"type": "input_text", "text": OSLO}]}],
        tools=[{"type": "function", "strict": False, **weather}],
        parallel_tool_calls=False,
        store=False,
        include=["reasoning.encrypted_content"],
        extra_body={"temperature": 0, "prompt_cache_key": "a"},
    ) as stream:
        (call,) = stream.get_final_response().output
    assert json.loads(call.arguments) == {"city": "Oslo"}


@tried("decisions")
def decisions():
    levels = ["very negative", "negative", "neutral", "positive", "very positive"]
    answer = client.decisions.create(
        model=DECIDE,
        input=FILM,
        questions=[
            {"type": "predicate", "instructions": "The author praises it."},
            {
                "type": "choice",
                "name": "sentiment",
                "instructions": SENTIMENT,
                "choices": [{"value": "negative"}, {"value": "positive"}],
            },
            {
                "type": "score",
                "instructions": "How positive is the text?",
                "levels": [{"label": label} for label in levels],
            },
        ],
    )
    praised, sentiment, positive = answer.answers
    assert praised.name is None, answer
    assert praised.probability > 0.5, answer
    assert (sentiment.name, sentiment.choice) == ("sentiment", "positive"), answer
    assert positive.score > 2, answer
    assert [each.label for each in positive.probabilities] == levels, answer
    assert answer.usage.input_tokens > 0


@tried("decision on messages, with values that are booleans")
def messages():
    answer = client.decisions.create(
        model=DECIDE,
        input=[{"role": "user", "content": [{"type": "input_text", "text": FILM}]}],
        questions=[
            {
                "type": "choice",
                "instructions": "Would the author watch it again?",
                "choices": [
                    {"value": True, "description": "gladly"},
                    {"value": False, "description": "never"},
                ],
            }
        ],
        safety_identifier="a",
    )
    (again,) = answer.answers
    assert isinstance(again.choice, bool), answer
    assert [each.value for each in again.probabilities] == [True, False], answer
