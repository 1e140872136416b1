"""CrewAI: its model, a crew of one, a crew that calls a tool, a typed output."""

import os
import sys

os.environ["CREWAI_DISABLE_TELEMETRY"] = os.environ["OTEL_SDK_DISABLED"] = "true"

from crewai import LLM, Agent, Crew, Task
from crewai.tools import tool
from pydantic import BaseModel, Field
from tried import JAPAN, MODEL, OSLO, TOOLS, URL, expect, tried

sys.stdout = sys.stderr  # its panels would break into the lines of what was tried


class Place(BaseModel):
    city: str = Field(max_length=20)
    country: str = Field(max_length=20)


called = []


@tool("get_weather")
def get_weather(city: str) -> str:
    """Weather in a city"""
    called.append(city)
    return "12 degrees, light rain"


def model(name, **options):
    service = {"base_url": f"{URL}/v1", "api_key": "none"}
    return LLM(model=f"openai/{name}", temperature=0, max_tokens=64, **service, **options)


def crew(name, question, tools=(), **options):
    agent = Agent(
        role="Guide", goal="Answer", backstory="", llm=model(name), tools=list(tools), max_iter=3
    )
    task = Task(description=question, expected_output="One sentence", agent=agent, **options)
    return Crew(agents=[agent], tasks=[task]).kickoff()


@tried("chat")
def chat():
    expect(model(MODEL).call(JAPAN), "Tokyo")


@tried("chat, streamed")
def stream():
    expect(model(MODEL, stream=True).call(JAPAN), "Tokyo")


@tried("crew of one agent")
def one():
    expect(crew(MODEL, JAPAN).raw, "Tokyo")


@tried("agent that calls a tool")
def tools():
    crew(TOOLS, OSLO, [get_weather])
    expect(called, "Oslo")


@tried("typed output")
def typed():
    assert isinstance(crew(MODEL, JAPAN, output_pydantic=Place).pydantic, Place)
