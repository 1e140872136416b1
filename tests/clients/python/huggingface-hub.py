"""huggingface_hub's client, whose model may be named by the address alone."""

import json

from huggingface_hub import InferenceClient
from tried import JAPAN, MODEL, URL, expect, tried

client = InferenceClient(base_url=f"{URL}/v1", api_key="none")
asked = [{"role": "user", "content": JAPAN}]


@tried("chat")
def chat():
    answer = client.chat_completion(asked, model=MODEL, temperature=0)
    expect(answer.choices[0].message.content, "Tokyo")


@tried("stream")
def stream():
    parts = client.chat_completion(asked, model=MODEL, temperature=0, stream=True)
    expect("".join(part.choices[0].delta.content or "" for part in parts), "Tokyo")


@tried("JSON by a schema")
def structured():
    schema = {
        "type": "object",
        "properties": {"city": {"type": "string", "maxLength": 20}},
        "required": ["city"],
    }
    answer = client.chat_completion(
        asked, model=MODEL, temperature=0, response_format={"type": "json_object", "value": schema}
    )
    assert json.loads(answer.choices[0].message.content).keys() == {"city"}
