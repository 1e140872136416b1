"""OpenAI's agents at their default, which are Responses, and by chats."""

import asyncio

from agents import (
    Agent,
    ModelSettings,
    OpenAIChatCompletionsModel,
    OpenAIResponsesModel,
    Runner,
    function_tool,
    set_tracing_disabled,
)
from openai import AsyncOpenAI
from tried import OSLO, TOOLS, URL, expect, tried

set_tracing_disabled(True)
client = AsyncOpenAI(base_url=f"{URL}/v1", api_key="none")


@function_tool
def get_weather(city: str) -> str:
    """Weather in a city"""
    return "12 degrees, light rain"


def agent(kind):
    return Agent(
        name="Weather",
        model=kind(model=TOOLS, openai_client=client),
        model_settings=ModelSettings(temperature=0),
        tools=[get_weather],
    )


@tried("agent with a tool")
def whole():
    expect(asyncio.run(Runner.run(agent(OpenAIResponsesModel), OSLO)).final_output, "light rain")


@tried("agent with a tool, streamed")
def streamed():
    async def run():
        result = Runner.run_streamed(agent(OpenAIResponsesModel), OSLO)
        async for _ in result.stream_events():
            pass
        return result.final_output

    expect(asyncio.run(run()), "light rain")


@tried("agent with a tool, by chats")
def chats():
    result = asyncio.run(Runner.run(agent(OpenAIChatCompletionsModel), OSLO))
    expect(result.final_output, "light rain")
