"""Semantic Kernel: an agent that answers, one that is streamed, one with a plugin, Responses."""

import asyncio
from typing import Annotated

from openai import AsyncOpenAI
from pydantic import BaseModel, Field
from semantic_kernel.agents import ChatCompletionAgent, OpenAIResponsesAgent
from semantic_kernel.connectors.ai.open_ai import (
    OpenAIChatCompletion,
    OpenAIChatPromptExecutionSettings,
    OpenAITextEmbedding,
)
from semantic_kernel.functions import KernelArguments, kernel_function
from tried import ENCODER, JAPAN, MODEL, OSLO, TOOLS, URL, expect, tried

client = AsyncOpenAI(base_url=f"{URL}/v1", api_key="none")


class Place(BaseModel):
    city: str = Field(max_length=20)
    country: str = Field(max_length=20)


class Weather:
    @kernel_function(name="get_weather", description="Weather in a city")
    def get_weather(self, city: Annotated[str, "The city"]) -> str:
        return "12 degrees, light rain"


def agent(name, plugins=(), **settings):
    return ChatCompletionAgent(
        service=OpenAIChatCompletion(ai_model_id=name, async_client=client),
        plugins=list(plugins),
        arguments=KernelArguments(OpenAIChatPromptExecutionSettings(temperature=0, **settings)),
    )


@tried("agent")
def chat():
    expect(asyncio.run(agent(MODEL).get_response(JAPAN)), "Tokyo")


@tried("agent, streamed")
def streamed():
    async def run():
        return "".join([str(part) async for part in agent(MODEL).invoke_stream(JAPAN)])

    expect(asyncio.run(run()), "Tokyo")


@tried("agent with a plugin")
def plugin():
    expect(asyncio.run(agent(TOOLS, [Weather()]).get_response(OSLO)), "light rain")


@tried("typed output")
def typed():
    answer = asyncio.run(agent(MODEL, response_format=Place).get_response(JAPAN))
    Place.model_validate_json(str(answer))


@tried("agent, by Responses")
def responses():
    made = OpenAIResponsesAgent(
        ai_model_id=MODEL, client=client, store_enabled=False, temperature=0
    )
    expect(asyncio.run(made.get_response(JAPAN)), "Tokyo")


@tried("embeddings")
def embeddings():
    made = OpenAITextEmbedding(ai_model_id=ENCODER, async_client=client)
    assert asyncio.run(made.generate_embeddings(["a", "b"])).shape == (2, 384)
