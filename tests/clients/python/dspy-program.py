"""DSPy: a prediction, a streamed one, a typed one by a declared provider, a tool, embeddings."""

import os

os.environ["LITELLM_LOCAL_MODEL_COST_MAP"] = "True"

import dspy
from dspy import lm15
from pydantic import BaseModel, Field
from tried import ENCODER, JAPAN, MODEL, OSLO, TOOLS, URL, expect, tried

service = {"api_base": f"{URL}/v1", "api_key": "none"}
exact = {"temperature": 0, "max_tokens": 128, "cache": False, **service}
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


class Located(dspy.Signature):
    question: str = dspy.InputField()
    place: Place = dspy.OutputField()


def using(name):
    return dspy.context(lm=dspy.LM(name, **exact), adapter=dspy.JSONAdapter())


@tried("prediction")
def prediction():
    with using(f"openai/{MODEL}"):
        expect(dspy.Predict("question -> answer")(question=JAPAN).answer, "Tokyo")


@tried("prediction, streamed")
def stream():
    listener = dspy.streaming.StreamListener(signature_field_name="answer")
    with using(f"openai/{MODEL}"):
        program = dspy.streamify(
            dspy.Predict("question -> answer"), stream_listeners=[listener], async_streaming=False
        )
        *parts, last = program(question=JAPAN)
    assert parts
    expect(last.answer, "Tokyo")


@tried("typed prediction")
def typed():
    # It sends a schema to models that it knows, or whose provider says that they take one.
    access = lm15.AccessPolicy(provider="service", base_url=service["api_base"])
    lm15.register_provider(
        lm15.ProviderDefinition.chat(access, compat=lm15.OpenAIChatCompat()),
        supports=lm15.ModelSupport(response_schema=True),
    )
    with using(f"service/{MODEL}"):
        assert isinstance(dspy.Predict(Located)(question=JAPAN).place, Place)


@tried("tool call")
def tool():
    tools = [{"type": "function", "function": weather}]
    expect(dspy.LM(f"openai/{TOOLS}", **exact)(OSLO, tools=tools), "Oslo")


@tried("embeddings")
def embeddings():
    embedder = dspy.Embedder(f"openai/{ENCODER}", caching=False, **service)
    assert embedder(["a", "b"]).shape == (2, 384)
