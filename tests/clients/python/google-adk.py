"""Google's ADK by LiteLLM: an agent that answers, one that is streamed, one with a tool."""

import asyncio
import os

os.environ["LITELLM_LOCAL_MODEL_COST_MAP"] = "True"

from google.adk.agents import LlmAgent
from google.adk.agents.run_config import RunConfig, StreamingMode
from google.adk.models.lite_llm import LiteLlm
from google.adk.runners import InMemoryRunner
from google.genai.types import GenerateContentConfig
from pydantic import BaseModel, Field
from tried import JAPAN, MODEL, OSLO, TOOLS, URL, expect, tried


class Place(BaseModel):
    city: str = Field(max_length=20)
    country: str = Field(max_length=20)


def get_weather(city: str) -> str:
    """Weather in a city"""
    return "12 degrees, light rain"


def answer(name, question, mode=StreamingMode.NONE, **options):
    model = LiteLlm(model=f"openai/{name}", api_base=f"{URL}/v1", api_key="none")
    exact = GenerateContentConfig(temperature=0)
    agent = LlmAgent(name="guide", model=model, generate_content_config=exact, **options)
    run_config = RunConfig(streaming_mode=mode)
    events = asyncio.run(
        InMemoryRunner(agent).run_debug(question, run_config=run_config, quiet=True)
    )
    return "".join(part.text or "" for part in events[-1].content.parts)


@tried("agent")
def agent():
    expect(answer(MODEL, JAPAN), "Tokyo")


@tried("agent, streamed")
def streamed():
    expect(answer(MODEL, JAPAN, StreamingMode.SSE), "Tokyo")


@tried("agent with a tool")
def tool():
    expect(answer(TOOLS, OSLO, tools=[get_weather]), "light rain")


@tried("typed output")
def typed():
    Place.model_validate_json(answer(MODEL, JAPAN, output_schema=Place))
