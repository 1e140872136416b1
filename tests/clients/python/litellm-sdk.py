"""LiteLLM's SDK by OpenAI's and by Anthropic's API, and its decisions by OpenAI's and vLLM's."""

import json

import litellm
from tried import DECIDE, FILM, JAPAN, MODEL, OSLO, SENTIMENT, TOOLS, URL, expect, tried

litellm.suppress_debug_info = True
asked = [{"role": "user", "content": JAPAN}]
openai = {"api_base": f"{URL}/v1", "api_key": "none", "temperature": 0}


@tried("chat")
def chat():
    answer = litellm.completion(model=f"openai/{MODEL}", messages=asked, **openai)
    expect(answer.choices[0].message.content, "Tokyo")


@tried("stream")
def stream():
    parts = litellm.completion(model=f"openai/{MODEL}", messages=asked, stream=True, **openai)
    expect("".join(part.choices[0].delta.content or "" for part in parts), "Tokyo")


@tried("tool call")
def tool():
    function = {
        "name": "get_weather",
        "description": "Weather in a city",
        "parameters": {
            "type": "object",
            "properties": {"city": {"type": "string"}},
            "required": ["city"],
        },
    }
    answer = litellm.completion(
        model=f"openai/{TOOLS}",
        messages=[{"role": "user", "content": OSLO}],
        tools=[{"type": "function", "function": function}],
        **openai,
    )
    (call,) = answer.choices[0].message.tool_calls
    assert json.loads(call.function.arguments) == {"city": "Oslo"}


@tried("chat, by Anthropic's API")
def anthropic():
    answer = litellm.completion(
        model=f"anthropic/{MODEL}",
        messages=asked,
        api_base=URL,
        api_key="none",
        temperature=0,
        max_tokens=32,
    )
    expect(answer.choices[0].message.content, "Tokyo")


def decide(provider, address):
    answer = litellm.decisions(
        model=f"{provider}/{DECIDE}",
        input=FILM,
        questions=[
            {
                "type": "choice",
                "name": "sentiment",
                "instructions": SENTIMENT,
                "choices": [{"value": "negative"}, {"value": "positive"}],
            }
        ],
        api_base=address,
        api_key="none",
    )
    (sentiment,) = answer.answers
    assert sentiment.choice == "positive", answer


@tried("decision (openai)")
def decision():
    decide("openai", f"{URL}/v1")


@tried("decision (hosted_vllm)")
def systemone():
    decide("hosted_vllm", URL)
